package rules

// Own picks out of what ParseSave returned what belongs to a service proxy:
// its chains in filter and nat, and the jumps from built-in chains into them.
func Own(f Family, tables []Table) *Ruleset {
	own := &Ruleset{Family: f}
	for _, t := range tables {
		if t.Name != Filter && t.Name != Nat {
			continue
		}
		mine := Table{Name: t.Name}
		for _, c := range t.Chains {
			if Owned(t.Name, c.Name) {
				mine.Chains = append(mine.Chains, c)
			} else if c.Policy != "" {
				own.Jumps = append(own.Jumps, jumpsIn(t.Name, c)...)
			}
		}
		if len(mine.Chains) > 0 {
			own.Tables = append(own.Tables, mine)
		}
	}
	return own
}

func jumpsIn(table TableName, builtin *Chain) []Jump {
	var jumps []Jump
	for i := range builtin.Rules {
		if r := &builtin.Rules[i]; Owned(table, r.Jump()) {
			jumps = append(jumps, Jump{table, builtin.Name, *r})
		}
	}
	return jumps
}
