package rules

import (
	"slices"
	"strings"
)

// ParseSave reads what iptables-save prints, with or without counters, whoever
// wrote the rules; it reads what this package renders as well. It returns every
// table in the text, each with its chains sorted by name. A rule that holds
// something unknown is kept as Rare.Unparsed, it is no error; a line that cannot
// be told apart into chain and rule is one, and names the line.
func ParseSave(text []byte, f Family) ([]Table, error) {
	save, err := ReadSave(string(text), f)
	if err != nil {
		return nil, err
	}
	tables := make([]Table, 0, len(save.tables))
	for _, saved := range save.tables {
		t := Table{Name: saved.name}
		for _, name := range save.Chains(saved.name, "") {
			c, err := save.Chain(saved.name, name)
			if err != nil {
				return nil, err
			}
			t.Chains = append(t.Chains, &Chain{Name: c.Name, Policy: c.Policy, Rules: c.Rules})
		}
		tables = append(tables, t)
	}
	slices.SortFunc(tables, func(a, b Table) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return tables, nil
}

// ParseRule reads the specification of one rule, as it stands behind the chain's name.
// Only broken quoting is an error: see ParseSave.
func ParseRule(spec string, f Family) (Rule, error) { return parseSpec(spec, f) }
