package rules

import "strings"

// Suspects returns those Services of the snapshot built last, in its order, whose
// rules a restore may have been refused for: have is what was there, tx the
// transaction, and lines are those that the refusal named. Where these hold a rule
// or a chain, exact is set and suspects are whom these belong to; otherwise they
// are all whose rules the transaction adds or changes. None: no Service has a part
// in what was refused.
func (b *Builder) Suspects(have *Ruleset, tx *Transaction, lines []string) (suspects []*Service, exact bool) {
	owners := b.owners(tx.Table)
	found := map[int]bool{}
	for _, line := range lines {
		if chain, rule, ok := parseLine(line, b.cfg.Family); ok {
			exact = true
			owners.mark(found, chain, rule)
		}
	}
	if !exact {
		owners.markChanged(found, have.Table(tx.Table), tx.Write)
	}
	for i, svc := range b.snap.Services {
		if found[i] {
			suspects = append(suspects, svc)
		}
	}
	return suspects, exact
}

// parseLine reads a line of input that belongs to one chain: its declaration, a rule,
// or a jump from a built-in chain.
func parseLine(line string, f Family) (chain string, rule *Rule, ok bool) {
	if name, found := strings.CutPrefix(line, ":"); found {
		name, _, _ = strings.Cut(name, " ")
		return name, nil, true
	}
	rest, found := strings.CutPrefix(line, "-A ")
	if !found {
		rest, found = strings.CutPrefix(line, "-I ")
	}
	if !found {
		return "", nil, false
	}
	chain, spec, _ := strings.Cut(rest, " ")
	r, err := parseSpec(spec, f)
	return chain, &r, err == nil
}

// owners tells which Service, by its place in the snapshot, a chain or a rule in a
// shared chain was made for.
type owners struct {
	chains map[string]int
	rules  map[Rule]int
}

func (b *Builder) owners(t TableName) owners {
	o := owners{map[string]int{}, map[Rule]int{}}
	for i, part := range b.parts {
		if t == Nat {
			for _, c := range part.chains {
				o.chains[c.Name] = i
			}
		}
		for j := range sharedChains {
			if sharedChains[j].table != t {
				continue
			}
			for _, r := range sharedChains[j].rules(part) {
				o.rules[r] = i
			}
		}
	}
	return o
}

func (o owners) mark(found map[int]bool, chain string, rule *Rule) {
	if i, ok := o.chains[chain]; ok {
		found[i] = true
	} else if rule == nil {
		return
	} else if i, ok := o.rules[*rule]; ok {
		found[i] = true
	}
}

// markChanged marks who has a part in what is written to a table and was not there.
// A rule that moves from one shared chain to another was there: these are divided
// otherwise when their number changes.
func (o owners) markChanged(found map[int]bool, have *Table, written []*Chain) {
	old := map[Rule]bool{}
	for _, c := range have.Chains {
		if _, ok := o.chains[c.Name]; ok {
			continue
		}
		for _, r := range c.Rules {
			old[r] = true
		}
	}
	for _, c := range written {
		o.mark(found, c.Name, nil)
		for i := range c.Rules {
			if !old[c.Rules[i]] {
				o.mark(found, c.Name, &c.Rules[i])
			}
		}
	}
}
