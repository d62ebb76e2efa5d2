package rules

import "slices"

// After returns what is there once the first n transactions of the plan are
// carried out, and with all of them its jumps, where have was there before.
func (p *Plan) After(have *Ruleset, n int) *Ruleset {
	out := &Ruleset{Family: p.Family, Jumps: slices.Clone(have.Jumps), Held: have.Held}
	for i := range p.Transactions[:n] {
		out.Jumps = append(out.Jumps, p.Transactions[i].Jumps...)
	}
	if n == len(p.Transactions) {
		out.Jumps = slices.DeleteFunc(out.Jumps, func(j Jump) bool { return find(p.Remove, &j) >= 0 })
		out.Jumps = append(out.Jumps, p.Jumps...)
	}
	for _, name := range Tables() {
		written := map[string]*Chain{} // by name; nil: deleted
		for i := range p.Transactions[:n] {
			tx := &p.Transactions[i]
			if tx.Table != name {
				continue
			}
			for _, c := range tx.Write {
				written[c.Name] = c
			}
			for _, d := range tx.Delete {
				written[d] = nil
			}
		}
		out.Tables = append(out.Tables, Table{Name: name, Chains: overlay(have.Table(name).Chains, written)})
	}
	return out
}

// overlay returns chains, sorted by name, with some replaced, added or, where
// written has nil for one, left out.
func overlay(chains []*Chain, written map[string]*Chain) []*Chain {
	if len(written) == 0 {
		return chains
	}
	out := make([]*Chain, 0, len(chains)+len(written))
	for _, c := range chains {
		if _, ok := written[c.Name]; !ok {
			out = append(out, c)
		}
	}
	for _, c := range written {
		if c != nil {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, compareChains)
	return out
}

// WithoutDeletes returns the plan less its deletions. What it leaves behind can be
// reached by no packet, and a later plan deletes it.
func (p *Plan) WithoutDeletes() *Plan {
	out := &Plan{Family: p.Family, Remove: p.Remove, Jumps: p.Jumps}
	for _, tx := range p.Transactions {
		if len(tx.Write)+len(tx.Jumps) > 0 {
			out.Transactions = append(out.Transactions, Transaction{Table: tx.Table, Write: tx.Write, Jumps: tx.Jumps})
		}
	}
	return out
}
