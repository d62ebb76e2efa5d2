package rules

import "slices"

// Own picks out of what ParseSave returned what belongs to a service proxy:
// its chains in filter and nat, the jumps from built-in chains into them, and the
// references of others to them.
func Own(f Family, tables []Table) *Ruleset {
	own := &Ruleset{Family: f}
	for _, t := range tables {
		if !slices.Contains(Tables(), t.Name) {
			continue
		}
		mine := Table{Name: t.Name}
		for _, c := range t.Chains {
			switch {
			case Owned(t.Name, c.Name):
				mine.Chains = append(mine.Chains, c)
			case BuiltIn(t.Name, c.Name):
				own.Jumps = append(own.Jumps, jumpsIn(t.Name, c)...)
			default:
				for i := range c.Rules {
					own.refer(t.Name, c.Name, &c.Rules[i])
				}
			}
		}
		if len(mine.Chains) > 0 {
			own.Tables = append(own.Tables, mine)
		}
	}
	return own
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

// refer notes a rule of somebody else's chain, if it leads to one of ours.
func (r *Ruleset) refer(table TableName, from string, rule *Rule) {
	if to := rule.Jump(); Owned(table, to) {
		r.Held = append(r.Held, Reference{Table: table, Chain: to, From: from})
	}
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
