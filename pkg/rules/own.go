package rules

import (
	"fmt"
	"slices"
	"strings"
)

// Own picks out of what ParseSave returned what belongs to a service proxy:
// its chains in filter and nat, the jumps from built-in chains into them, and the
// references of others to them.
func Own(f Family, tables []Table) *Ruleset {
	p := newPicker(f, nil)
	for _, t := range tables {
		for _, c := range t.Chains {
			p.chain(t.Name, c)
		}
	}
	return p.own
}

// OwnReader is Own for a text that comes line by line and is never whole in
// memory: what iptables-save prints, where the rules of a chain stand together.
type OwnReader struct {
	parser saveParser
	picker *picker
	lines  int
	skip   bool // the lines are of a table that is not ours to write
}

// NewOwnReader returns a reader that has read nothing yet. A chain that equals the
// one in known, which may be nil, becomes that very chain.
func NewOwnReader(f Family, known *Ruleset) *OwnReader {
	r := &OwnReader{parser: saveParser{family: f}, picker: newPicker(f, known)}
	r.parser.done = r.picker.chain
	return r
}

// Line reads one line, without its end. Errors are those of ParseSave, and a
// chain with rules in two places.
func (r *OwnReader) Line(line string) error {
	r.lines++
	if table, ok := unreadable(line); ok {
		r.Unreadable(table)
	}
	if table, ok := strings.CutPrefix(line, "*"); ok {
		r.skip = !slices.Contains(Tables(), TableName(table))
	}
	if r.skip {
		return nil
	}
	if err := r.parser.line(line); err != nil {
		return fmt.Errorf("parse rules: line %d: %w", r.lines, err)
	}
	return nil
}

// Unreadable notes that there are no lines of a table, as iptables cannot read it.
func (r *OwnReader) Unreadable(table TableName) {
	r.picker.own.Unreadable = append(r.picker.own.Unreadable, table)
}

// Ruleset returns what is ours of all lines.
func (r *OwnReader) Ruleset() *Ruleset {
	own := r.picker.own
	for i := range own.Tables {
		own.Tables[i].sort()
	}
	return own
}

// unreadable returns the table that iptables-nft-save left out, since it holds
// something that only nft can express.
func unreadable(line string) (TableName, bool) {
	name, ok := strings.CutPrefix(line, "# Table `")
	if !ok {
		return "", false
	}
	name, rest, _ := strings.Cut(name, "'")
	return TableName(name), strings.HasPrefix(rest, " is incompatible") && slices.Contains(Tables(), TableName(name))
}

// picker takes chains of anybody, each whole, and keeps what is ours.
type picker struct {
	own   *Ruleset
	known *Ruleset
}

func newPicker(f Family, known *Ruleset) *picker {
	if known == nil {
		known = &Ruleset{}
	}
	return &picker{own: &Ruleset{Family: f}, known: known}
}

func (p *picker) chain(table TableName, c *Chain) {
	switch {
	case !slices.Contains(Tables(), table):
	case Owned(table, c.Name):
		p.add(table, c)
	case c.Policy != "":
		p.own.Jumps = append(p.own.Jumps, jumpsIn(table, c)...)
	default:
		p.own.Held = append(p.own.Held, references(table, c)...)
	}
}

func (p *picker) add(table TableName, c *Chain) {
	if k := p.known.Table(table).Chain(c.Name); k != nil && slices.Equal(k.Rules, c.Rules) {
		c = k
	}
	for i := range p.own.Tables {
		if t := &p.own.Tables[i]; t.Name == table {
			t.Chains = append(t.Chains, c)
			return
		}
	}
	p.own.Tables = append(p.own.Tables, Table{Name: table, Chains: []*Chain{c}})
	slices.SortFunc(p.own.Tables, func(a, b Table) int { return strings.Compare(string(a.Name), string(b.Name)) })
}

// jumpsIn returns the rules of a built-in chain that lead to our chains. Behind a
// rule that takes every packet they are dead.
func jumpsIn(table TableName, builtIn *Chain) []Jump {
	var jumps []Jump
	dead := false
	for i := range builtIn.Rules {
		r := &builtIn.Rules[i]
		if Owned(table, r.Jump()) {
			jumps = append(jumps, Jump{Table: table, Chain: builtIn.Name, Rule: *r, Position: i + 1, Dead: dead})
		}
		dead = dead || r.final()
	}
	return jumps
}

// references returns for each of our chains that a chain of others leads to who
// that is.
func references(table TableName, foreign *Chain) []Reference {
	var out []Reference
	for i := range foreign.Rules {
		ref := Reference{Table: table, Chain: foreign.Rules[i].Jump(), From: foreign.Name}
		if Owned(table, ref.Chain) && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}

// BuiltIn reports whether a table has a built-in chain of that name, where every
// packet of a hook comes by.
func BuiltIn(table TableName, chain string) bool {
	switch table {
	case Nat:
		return slices.Contains([]string{"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}, chain)
	case Filter:
		return slices.Contains([]string{"INPUT", "FORWARD", "OUTPUT"}, chain)
	}
	return false
}
