package rules

import "slices"

// DriftKind is a way in which the kernel's rules can differ from those wanted. The
// values are those of a metric's label.
type DriftKind string

const (
	ChainMissing    DriftKind = "chain_missing"    // the chain is not there
	ChainChanged    DriftKind = "chain_changed"    // its rules are others, or in another order
	ChainStale      DriftKind = "chain_stale"      // a chain of ours is there that nobody wants
	JumpMissing     DriftKind = "jump_missing"     // a built-in chain does not lead to ours
	JumpBehind      DriftKind = "jump_behind"      // it does, behind a rule that takes every packet
	TableUnreadable DriftKind = "table_unreadable" // rules made by nft are in it that iptables cannot show
)

// DriftKinds lists all kinds.
func DriftKinds() []DriftKind {
	return []DriftKind{ChainMissing, ChainChanged, ChainStale, JumpMissing, JumpBehind, TableUnreadable}
}

// Drift is one difference between the rules that the kernel has and those wanted.
type Drift struct {
	Table   TableName
	Kind    DriftKind
	Chain   string // ours; the built-in one of a jump; empty for a table
	Missing []Rule // wanted, not there; of a jump, the jump itself
	Extra   []Rule // there, not wanted
}

// FindDrift lists how have, as read from the kernel, differs from want: chains
// first, then jumps, table by table. It is empty exactly where NewPlan is: others'
// rules, and their order among our jumps, are no drift.
func FindDrift(have, want *Ruleset) []Drift {
	var out []Drift
	held := have.holders()
	for _, name := range Tables() {
		if slices.Contains(have.Unreadable, name) {
			out = append(out, Drift{Table: name, Kind: TableUnreadable})
			continue
		}
		out = append(out, chainDrift(have.Table(name), want.Table(name), held)...)
		jumps := jumpsOf(name, have.Jumps)
		_, insert := jumpChanges(jumps, jumpsOf(name, want.Jumps))
		for i := range insert {
			out = append(out, jumpDrift(jumps, &insert[i]))
		}
	}
	return out
}

func chainDrift(have, want *Table, held holders) []Drift {
	var out []Drift
	for _, c := range held.chainChanges(have, want) {
		out = append(out, Drift{
			Table: c.table, Kind: c.kind, Chain: c.name,
			Missing: without(c.want, c.have), Extra: without(c.have, c.want),
		})
	}
	return out
}

func jumpDrift(have []Jump, missing *Jump) Drift {
	d := Drift{Table: missing.Table, Kind: JumpMissing, Chain: missing.Chain, Missing: []Rule{missing.Rule}}
	if find(have, missing) >= 0 {
		d.Kind = JumpBehind
	}
	return d
}
