package rules

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// OwnReader is Own for what iptables-save prints, without counters, as it comes:
// nothing is kept of the text, and next to nothing of chains that are known.
type OwnReader struct {
	family Family
	known  *Ruleset
	own    *Ruleset
	table  *ownTable // nil: between tables, or in one that is not ours to write
	lines  int
	spec   []byte
}

// NewOwnReader returns a reader that has read nothing yet. A chain that equals the
// one in known, which may be nil, becomes that very chain.
func NewOwnReader(f Family, known *Ruleset) *OwnReader {
	if known == nil {
		known = &Ruleset{}
	}
	return &OwnReader{family: f, known: known, own: &Ruleset{Family: f}}
}

// ownTable is a table of which some lines were read.
type ownTable struct {
	name     TableName
	known    []*Chain          // sorted by name
	matched  []int             // for each of known: how many of its rules came, and no other; elsewhere: -1
	chains   map[string]*Chain // ours that are not known, or not as they are
	builtIns []*Chain
}

// Line reads one line, without its end. An error names the line by its number.
func (r *OwnReader) Line(line []byte) error {
	r.lines++
	if err := r.line(line); err != nil {
		return fmt.Errorf("parse rules: line %d: %w", r.lines, err)
	}
	return nil
}

func (r *OwnReader) line(line []byte) error {
	switch {
	case len(line) == 0:
	case line[0] == '#':
		if table, ok := unreadable(string(line)); ok && slices.Contains(Tables(), table) {
			r.own.Unreadable = append(r.own.Unreadable, table)
		}
	case line[0] == '*':
		r.start(TableName(line[1:]))
	case r.table == nil:
	case string(line) == "COMMIT":
		r.end()
	case line[0] == ':':
		name, _, _ := bytes.Cut(line[1:], []byte(" "))
		r.table.declare(string(name))
	case bytes.HasPrefix(line, []byte("-A ")):
		name, spec, _ := bytes.Cut(line[len("-A "):], []byte(" "))
		return r.rule(name, spec)
	default:
		return fmt.Errorf("neither chain nor rule: %q", line)
	}
	return nil
}

// Ruleset returns what is ours of all lines.
func (r *OwnReader) Ruleset() *Ruleset {
	slices.SortFunc(r.own.Tables, func(a, b Table) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return r.own
}

// unreadable returns the table that iptables-nft-save left out, since it holds
// something that only nft can express.
func unreadable(line string) (TableName, bool) {
	name, ok := strings.CutPrefix(line, "# Table `")
	if !ok {
		return "", false
	}
	name, rest, _ := strings.Cut(name, "'")
	return TableName(name), strings.HasPrefix(rest, " is incompatible")
}

func (r *OwnReader) start(name TableName) {
	r.table = nil
	if !slices.Contains(Tables(), name) {
		return
	}
	known := r.known.Table(name).Chains
	r.table = &ownTable{name: name, known: known, matched: slices.Repeat([]int{-1}, len(known)), chains: map[string]*Chain{}}
}

// end takes over the table.
func (r *OwnReader) end() {
	t := r.table
	mine := Table{Name: t.name}
	for i, n := range t.matched {
		switch k := t.known[i]; {
		case n == len(k.Rules):
			mine.Chains = append(mine.Chains, k)
		case n >= 0:
			mine.Chains = append(mine.Chains, t.part(i))
		}
	}
	for _, c := range t.chains {
		mine.Chains = append(mine.Chains, c)
	}
	mine.sort()
	for _, c := range t.builtIns {
		r.own.Jumps = append(r.own.Jumps, jumpsIn(t.name, c)...)
	}
	if len(mine.Chains) > 0 {
		r.own.Tables = append(r.own.Tables, mine)
	}
	r.table = nil
}

// part is a known chain with no more than the rules that came.
func (t *ownTable) part(i int) *Chain {
	k := t.known[i]
	return &Chain{Name: k.Name, Rules: slices.Clone(k.Rules[:t.matched[i]])}
}

func (t *ownTable) declare(name string) {
	if !Owned(t.name, name) {
		return
	}
	if i := t.find(name); i >= 0 {
		t.matched[i] = 0
	} else {
		t.chains[name] = &Chain{Name: name}
	}
}

// find returns the index of a known chain; -1 if it is not known.
func (t *ownTable) find(name string) int {
	i, ok := slices.BinarySearchFunc(t.known, name, func(c *Chain, name string) int { return strings.Compare(c.Name, name) })
	if !ok {
		return -1
	}
	return i
}

// rule takes in a rule. Most are as they are known, and then text is compared and
// nothing is parsed.
func (r *OwnReader) rule(name, spec []byte) error {
	t := r.table
	i := t.find(string(name))
	if i >= 0 && t.matched[i] >= 0 && t.matched[i] < len(t.known[i].Rules) {
		r.spec = appendSpec(r.spec[:0], r.family, &t.known[i].Rules[t.matched[i]])
		if bytes.Equal(bytes.TrimPrefix(r.spec, []byte(" ")), spec) {
			t.matched[i]++
			return nil
		}
	}
	rule, err := parseSpec(string(spec), r.family)
	if err != nil {
		return fmt.Errorf("chain %s: %q: %w", name, spec, err)
	}
	switch {
	case i >= 0 && t.matched[i] >= 0:
		t.add(i, rule)
	case t.chains[string(name)] != nil:
		c := t.chains[string(name)]
		c.Rules = append(c.Rules, rule)
	case BuiltIn(t.name, string(name)):
		c := t.builtIn(string(name))
		c.Rules = append(c.Rules, rule)
	default:
		r.own.refer(t.name, string(name), &rule)
	}
	return nil
}

// add takes in a rule of a known chain that is as known up to there.
func (t *ownTable) add(i int, rule Rule) {
	k, n := t.known[i], t.matched[i]
	if n < len(k.Rules) && k.Rules[n] == rule {
		t.matched[i]++
		return
	}
	c := t.part(i)
	c.Rules = append(c.Rules, rule)
	t.chains[c.Name], t.matched[i] = c, -1
}

func (t *ownTable) builtIn(name string) *Chain {
	for _, c := range t.builtIns {
		if c.Name == name {
			return c
		}
	}
	c := &Chain{Name: name}
	t.builtIns = append(t.builtIns, c)
	return c
}
