package rules

import (
	"fmt"
	"slices"
	"strings"
)

// ParseSave reads what iptables-save prints, with or without counters, whoever
// wrote the rules; it reads what this package renders as well. It returns every
// table in the text, each with its chains sorted by name. A rule that holds
// something unknown is kept as Rare.Unparsed, it is no error; a line that cannot
// be told apart into chain and rule is one, and names the line.
func ParseSave(text []byte, f Family) ([]Table, error) {
	p := saveParser{family: f}
	for n, line := range strings.Split(string(text), "\n") {
		if err := p.line(strings.TrimRight(line, "\r ")); err != nil {
			return nil, fmt.Errorf("parse rules: line %d: %w", n+1, err)
		}
	}
	for i := range p.tables {
		p.tables[i].sort()
	}
	slices.SortFunc(p.tables, func(a, b Table) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return p.tables, nil
}

// saveParser holds the table that the current line belongs to.
type saveParser struct {
	family Family
	tables []Table
	chains map[TableName]map[string]*Chain
	table  TableName // empty: between COMMIT and the next table
}

func (p *saveParser) line(line string) error {
	switch {
	case line == "" || line[0] == '#':
		return nil
	case line[0] == '*':
		return p.startTable(line[1:])
	case p.table == "":
		return fmt.Errorf("%q stands outside a table", line)
	case line == "COMMIT":
		p.table = ""
		return nil
	case line[0] == ':':
		return p.declare(line[1:])
	}
	if line[0] == '[' {
		_, rest, ok := strings.Cut(line, "] ")
		if !ok {
			return fmt.Errorf("counters without a rule: %q", line)
		}
		line = rest
	}
	return p.rule(line)
}

func (p *saveParser) startTable(name string) error {
	if name == "" || strings.ContainsAny(name, " \t") {
		return fmt.Errorf("bad table name %q", name)
	}
	p.table = TableName(name)
	if p.chains == nil {
		p.chains = map[TableName]map[string]*Chain{}
	}
	if p.chains[p.table] == nil {
		p.chains[p.table] = map[string]*Chain{}
		p.tables = append(p.tables, Table{Name: p.table})
	}
	return nil
}

// chain returns the named chain of the current table. Text made for
// iptables-restore adds to built-in chains without declaring them.
func (p *saveParser) chain(name string) *Chain {
	if c := p.chains[p.table][name]; c != nil {
		return c
	}
	c := &Chain{Name: name}
	p.chains[p.table][name] = c
	i := slices.IndexFunc(p.tables, func(t Table) bool { return t.Name == p.table })
	p.tables[i].Chains = append(p.tables[i].Chains, c)
	return c
}

// declare reads ":NAME POLICY [packets:bytes]". A chain that is declared again
// starts anew, as in a restore.
func (p *saveParser) declare(decl string) error {
	fields := strings.Split(decl, " ")
	if len(fields) < 2 || len(fields) > 3 || !chainName(fields[0]) {
		return fmt.Errorf("bad chain declaration %q", decl)
	}
	c := p.chain(fields[0])
	c.Rules = nil
	if fields[1] != "-" {
		c.Policy = fields[1]
	}
	return nil
}

// chainName reports whether the kernel's tools would make a chain of that name.
func chainName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

func (p *saveParser) rule(line string) error {
	command, rest, _ := strings.Cut(line, " ")
	name, spec, _ := strings.Cut(rest, " ")
	if !chainName(name) {
		return fmt.Errorf("no chain in %q", line)
	}
	r, err := parseSpec(spec, p.family)
	if err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	c := p.chain(name)
	switch command {
	case "-A":
		c.Rules = append(c.Rules, r)
	case "-I":
		c.Rules = slices.Insert(c.Rules, 0, r)
	default:
		return fmt.Errorf("unknown command %q", command)
	}
	return nil
}
