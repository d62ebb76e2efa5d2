package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Save is what iptables-save printed of one family and backend, whoever wrote the
// rules. Its chains are found by name and read when they are asked for: a packet
// meets a dozen of the tens of thousands that a large cluster has. It is not for
// several goroutines.
type Save struct {
	family Family
	text   string
	nft    bool          // iptables-nft wrote it
	tables []*savedTable // in the order of the text

	// Unreadable are tables that the kernel has and of which the text has nothing,
	// since they hold rules that only nft can show.
	Unreadable []TableName
}

type savedTable struct {
	name   TableName
	chains map[string]*SavedChain
}

// SavedChain is a chain as the text has it.
type SavedChain struct {
	Chain
	Specs    []string   // of each rule, as the text has it behind the chain's name
	Counters []Counters // of each rule; nil: the text has none

	parts []savedPart // its lines; nil: they have been read
}

// savedPart is lines of the text that stand together and add rules to one chain.
type savedPart struct {
	from, to int // in bytes
	line     int // the number of the first, from 1
}

// Counters say how often a rule matched since it was made.
type Counters struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// ReadSave finds the chains in what iptables-save prints, with or without counters;
// it takes what this package renders as well. A line that is no chain, rule or
// comment is an error, which names it.
func ReadSave(text string, f Family) (*Save, error) {
	r := saveReader{save: &Save{family: f, text: text}}
	for at := 0; at < len(text); {
		next := len(text)
		if n := strings.IndexByte(text[at:], '\n'); n >= 0 {
			next = at + n + 1
		}
		r.number++
		if err := r.line(at, next); err != nil {
			return nil, fmt.Errorf("parse rules: line %d: %w", r.number, err)
		}
		at = next
	}
	return r.save, nil
}

// Tables lists the tables that the text has.
func (s *Save) Tables() []TableName {
	var out []TableName
	for _, t := range s.tables {
		out = append(out, t.name)
	}
	return out
}

// Rules counts the lines that add rules: 0 means that a backend is not in use.
func (s *Save) Rules() int {
	n := 0
	for _, t := range s.tables {
		for _, c := range t.chains {
			n += len(c.Rules)
			for _, p := range c.parts {
				n += strings.Count(s.text[p.from:p.to], "\n")
			}
		}
	}
	return n
}

// Chain returns a chain with its rules; nil if the table or the chain is not there.
// A rule that holds something unknown is kept as Rare.Unparsed, it is no error.
func (s *Save) Chain(table TableName, name string) (*SavedChain, error) {
	t := s.table(table)
	if t == nil || t.chains[name] == nil {
		return nil, nil
	}
	c := t.chains[name]
	if err := s.read(c); err != nil {
		return nil, err
	}
	return c, nil
}

// Chains lists the names of a table's chains that begin with a prefix, sorted.
func (s *Save) Chains(table TableName, prefix string) []string {
	var out []string
	if t := s.table(table); t != nil {
		for name := range t.chains {
			if strings.HasPrefix(name, prefix) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// Text returns what was read.
func (s *Save) Text() string { return s.text }

func (s *Save) table(name TableName) *savedTable {
	for _, t := range s.tables {
		if t.name == name {
			return t
		}
	}
	return nil
}

// read reads the rules of a chain, unless it did before.
func (s *Save) read(c *SavedChain) error {
	n := 0
	for _, p := range c.parts {
		n += strings.Count(s.text[p.from:p.to], "\n") + 1
	}
	c.Rules, c.Specs = slices.Grow(c.Rules, n), slices.Grow(c.Specs, n)
	for _, p := range c.parts {
		number := p.line
		for line := range strings.SplitSeq(strings.TrimSuffix(s.text[p.from:p.to], "\n"), "\n") {
			if err := c.add(strings.TrimRight(line, "\r "), s.family); err != nil {
				return fmt.Errorf("parse rules: line %d: %w", number, err)
			}
			number++
		}
	}
	c.parts = nil
	if len(c.Counters) != len(c.Rules) {
		c.Counters = nil
	}
	return nil
}

// add takes in the line of one rule.
func (c *SavedChain) add(line string, f Family) error {
	counters, rule, err := cutCounters(line)
	if err != nil {
		return err
	}
	_, spec, _ := strings.Cut(rule, " ")
	_, spec, _ = strings.Cut(spec, " ")
	r, err := parseSpec(spec, f)
	if err != nil {
		return fmt.Errorf("%q: %w", rule, err)
	}
	c.Rules, c.Specs = append(c.Rules, r), append(c.Specs, spec)
	if n, ok := parseCounters(counters); ok {
		c.Counters = append(c.Counters, n)
	}
	return nil
}

// cutCounters returns what stands before a rule, "[12:345]" or nothing, and the rule.
func cutCounters(line string) (counters, rule string, err error) {
	if line == "" || line[0] != '[' {
		return "", line, nil
	}
	counters, rule, ok := strings.Cut(line, "] ")
	if !ok {
		return "", "", fmt.Errorf("counters without a rule: %q", line)
	}
	return counters[1:], rule, nil
}

func parseCounters(text string) (c Counters, ok bool) {
	packets, bytes, ok := strings.Cut(text, ":")
	var err1, err2 error
	c.Packets, err1 = strconv.ParseUint(packets, 10, 64)
	c.Bytes, err2 = strconv.ParseUint(bytes, 10, 64)
	return c, ok && err1 == nil && err2 == nil
}

// saveReader holds the table that the current line belongs to.
type saveReader struct {
	save   *Save
	number int // of the current line
	table  *savedTable
	last   *SavedChain // that the line before added a rule to, at its end
}

func (r *saveReader) line(from, to int) error {
	line := strings.TrimRight(r.save.text[from:to], "\r\n ")
	last := r.last
	r.last = nil
	switch {
	case line == "":
		return nil
	case line[0] == '#':
		if table, ok := unreadable(line); ok {
			r.save.Unreadable = append(r.save.Unreadable, table)
		}
		r.save.nft = r.save.nft || strings.HasPrefix(line, "# Generated by ") && strings.Contains(line, "(nf_tables)")
		return nil
	case line[0] == '*':
		return r.start(line[1:])
	case r.table == nil:
		return fmt.Errorf("%q stands outside a table", line)
	case line == "COMMIT":
		r.table = nil
		return nil
	case line[0] == ':':
		return r.declare(line[1:])
	}
	return r.rule(line, savedPart{from: from, to: to, line: r.number}, last)
}

func (r *saveReader) start(name string) error {
	if name == "" || strings.ContainsAny(name, " \t") {
		return fmt.Errorf("bad table name %q", name)
	}
	if r.table = r.save.table(TableName(name)); r.table == nil {
		r.table = &savedTable{name: TableName(name), chains: map[string]*SavedChain{}}
		r.save.tables = append(r.save.tables, r.table)
	}
	return nil
}

// declare reads ":NAME POLICY [packets:bytes]". A chain that is declared again
// starts anew, as in a restore.
func (r *saveReader) declare(text string) error {
	fields := strings.Split(text, " ")
	if len(fields) < 2 || len(fields) > 3 || !chainName(fields[0]) {
		return fmt.Errorf("bad chain declaration %q", text)
	}
	c := r.chain(fields[0])
	c.parts = nil
	if fields[1] != "-" {
		c.Policy = fields[1]
	}
	return nil
}

// chainName reports whether the kernel's tools would make a chain of that name.
func chainName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// chain returns the named chain of the current table. Text made for
// iptables-restore adds to built-in chains without declaring them.
func (r *saveReader) chain(name string) *SavedChain {
	c := r.table.chains[name]
	if c == nil {
		c = &SavedChain{Chain: Chain{Name: name}}
		r.table.chains[name] = c
	}
	return c
}

// rule notes where a rule stands. last is the chain of the rule right before, if
// there is one: most chains are one part.
func (r *saveReader) rule(line string, at savedPart, last *SavedChain) error {
	_, rule, err := cutCounters(line)
	if err != nil {
		return err
	}
	command, rest, _ := strings.Cut(rule, " ")
	name, _, _ := strings.Cut(rest, " ")
	if !chainName(name) {
		return fmt.Errorf("no chain in %q", rule)
	}
	switch {
	case command == "-A" && last != nil && last.Name == name:
		last.parts[len(last.parts)-1].to = at.to
		r.last = last
	case command == "-A":
		r.last = r.chain(name)
		r.last.parts = append(r.last.parts, at)
	case command == "-I":
		c := r.chain(name)
		c.parts = slices.Insert(c.parts, 0, at)
	default:
		return fmt.Errorf("unknown command %q", command)
	}
	return nil
}
