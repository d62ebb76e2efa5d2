package rules

import (
	"cmp"
	"slices"
	"strings"
)

// Diff is how the rules that the kernel has differ from those wanted, for people to
// read: the drift of FindDrift, by Service and rule by rule.
type Diff struct {
	// Unreadable are tables that iptables cannot show, so that nothing in them was
	// compared.
	Unreadable []TableName
	// Services are those with chains or rules that differ, by name. What belongs to
	// none, or to one that nothing tells the name of, is of a first one without name.
	Services []ServiceDiff
}

// ServiceDiff is what differs of one Service.
type ServiceDiff struct {
	Name   string // namespace/name; empty: of no single Service
	Wanted bool   // it is in the snapshot; else only the kernel has it
	Chains []ChainDiff
}

// ChainDiff is how one chain differs. Of a chain that holds rules of many Services
// it has the lines of one.
type ChainDiff struct {
	Table TableName
	Chain string // ours, or the built-in one of jumps into ours
	Kind  DriftKind
	Hunks []Hunk
}

// Hunk is a part of a unified diff. The numbers are those of the first rule in either
// list, from 1, or of the rule before where a list has none of the lines.
type Hunk struct {
	Have, Want int
	Lines      []string // "-" and the rule: only there; "+": only wanted; " ": both
}

// ByKubeProxy reports whether the rules are kube-proxy's: it has chains to notice a
// flush by, which svcproxy removes where it takes over.
func (r *Ruleset) ByKubeProxy() bool {
	return r.Table(Nat).Chain(chainCanary) != nil || r.Table(Filter).Chain(chainCanary) != nil
}

// Empty reports whether nothing differs.
func (d *Diff) Empty() bool { return len(d.Unreadable) == 0 && len(d.Services) == 0 }

// Comparison is of what the kernel has with what is wanted.
type Comparison struct {
	builder    *Builder
	have, want *Ruleset
	unreadable []TableName
	changes    []chainChange
	whose      *whose // nil: no chain differs
}

// Compare compares what the kernel has with want, which is what b has built last.
func (b *Builder) Compare(have, want *Ruleset) *Comparison {
	c := &Comparison{builder: b, have: have, want: want}
	held := have.holders()
	for _, name := range Tables() {
		if slices.Contains(have.Unreadable, name) {
			c.unreadable = append(c.unreadable, name)
			continue
		}
		c.changes = append(c.changes, held.chainChanges(have.Table(name), want.Table(name))...)
	}
	if len(c.changes) > 0 {
		c.whose = b.whose(have)
	}
	return c
}

// Diff returns the differences. It is empty exactly where FindDrift is.
func (c *Comparison) Diff() *Diff {
	d := &diffMaker{Comparison: c, services: map[string][]ChainDiff{}}
	for i := range c.changes {
		d.chain(&c.changes[i])
	}
	for _, name := range Tables() {
		if !slices.Contains(c.unreadable, name) {
			d.jumps(name)
		}
	}
	return d.result()
}

// chainChange is a chain that has to be written or deleted.
type chainChange struct {
	table      TableName
	name       string
	kind       DriftKind
	have, want []Rule // what is in it, and what is to be
}

// chainChanges lists the chains of one table that a plan would write or delete.
func (h holders) chainChanges(have, want *Table) []chainChange {
	var out []chainChange
	tx := h.changes(have, want)
	for _, c := range tx.Write {
		change := chainChange{want.Name, c.Name, ChainMissing, nil, c.Rules}
		if old := have.Chain(c.Name); old != nil {
			change.kind, change.have = ChainChanged, old.Rules
		}
		out = append(out, change)
	}
	for _, name := range tx.Delete {
		out = append(out, chainChange{want.Name, name, ChainStale, have.Chain(name).Rules, nil})
	}
	return out
}

// diffMaker collects differences by Service.
type diffMaker struct {
	*Comparison
	services map[string][]ChainDiff
}

func (d *diffMaker) add(service string, c ChainDiff) {
	d.services[service] = append(d.services[service], c)
}

// chain adds a chain: to the Service that it belongs to, or each of its lines to
// that of the line.
func (d *diffMaker) chain(c *chainChange) {
	script := editScript(c.have, c.want)
	runs := map[string][]run{}
	switch {
	case !isShared(c.table, c.name):
		runs[d.whose.chain(c.table, c.name)] = runsWithContext(script)
	case len(script) == 0: // an empty chain that is missing, or that nobody needs
		runs[""] = nil
	default:
		runs = runsByOwner(script, func(r *Rule) string { return d.whose.rule(c.table, r) })
	}
	for service, of := range runs {
		d.add(service, ChainDiff{c.table, c.name, c.kind, hunks(script, of, func(r *Rule) string {
			return "-A " + c.name + string(appendSpec(nil, d.want.Family, r))
		})})
	}
}

// jumps adds the jumps of one table that have to be inserted or moved, by built-in
// chain.
func (d *diffMaker) jumps(table TableName) {
	have := jumpsOf(table, d.have.Jumps)
	remove, insert := jumpChanges(have, jumpsOf(table, d.want.Jumps))
	var done []string
	for i := range insert {
		chain := insert[i].Chain
		if slices.Contains(done, chain) {
			continue
		}
		done = append(done, chain)
		in := func(j Jump) bool { return j.Chain != chain }
		there := slices.DeleteFunc(slices.Clone(have), in)
		after := withJumps(there, slices.DeleteFunc(slices.Clone(remove), in), slices.DeleteFunc(slices.Clone(insert), in))
		script := editScript(rulesOfJumps(there), rulesOfJumps(after))
		kind := JumpMissing
		if find(there, &insert[i]) >= 0 {
			kind = JumpBehind
		}
		d.add("", ChainDiff{table, chain, kind, hunks(script, runsWithContext(script), func(r *Rule) string {
			return "-A " + chain + string(appendJump(nil, d.want.Family, r))
		})})
	}
}

// withJumps returns the jumps of one built-in chain as they are once a plan is
// carried out.
func withJumps(have, remove, insert []Jump) []Jump {
	out := slices.Clone(have)
	for i := range remove {
		if at := find(out, &remove[i]); at >= 0 {
			out = slices.Delete(out, at, at+1)
		}
	}
	for _, j := range insert {
		behind := 0 // of those that are there and stand before it
		for at := range out {
			if out[at].Position > 0 && out[at].Position < j.Position {
				behind = at + 1
			}
		}
		j.Position = 0
		out = slices.Insert(out, behind, j)
	}
	return out
}

func rulesOfJumps(jumps []Jump) []Rule {
	out := make([]Rule, len(jumps))
	for i := range jumps {
		out[i] = jumps[i].Rule
	}
	return out
}

// result sorts what was collected.
func (d *diffMaker) result() *Diff {
	wanted := d.wanted()
	out := &Diff{Unreadable: d.unreadable}
	for name, chains := range d.services {
		slices.SortStableFunc(chains, func(a, b ChainDiff) int {
			return cmp.Or(strings.Compare(string(a.Table), string(b.Table)), strings.Compare(a.Chain, b.Chain))
		})
		out.Services = append(out.Services, ServiceDiff{name, wanted[name], chains})
	}
	slices.SortFunc(out.Services, func(a, b ServiceDiff) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// wanted holds the Services of the family, as namespace/name.
func (c *Comparison) wanted() map[string]bool {
	out := map[string]bool{}
	for _, svc := range c.builder.served() {
		out[svc.Namespace+"/"+svc.Name] = true
	}
	return out
}

// served lists the Services of the family in what was built last.
func (b *Builder) served() []*Service { return servicesIn(b.snap, b.cfg.Family) }

func servicesIn(snap *Snapshot, f Family) []*Service {
	return slices.DeleteFunc(slices.Clone(snap.Services), func(s *Service) bool { return !s.in(f) })
}

// CountServices returns how many Services of a snapshot are served in a family.
func CountServices(snap *Snapshot, f Family) int { return len(servicesIn(snap, f)) }

// LeadsToServices reports whether there are chains that only a service proxy makes;
// some others are kubelet's too.
func (r *Ruleset) LeadsToServices() bool {
	for _, t := range r.Tables {
		for _, c := range t.Chains {
			if isShared(t.Name, c.Name) || hasAnyPrefix(c.Name, prefixService, prefixLocal, prefixExternal, prefixFirewall, prefixEndpoint) {
				return true
			}
		}
	}
	return false
}
