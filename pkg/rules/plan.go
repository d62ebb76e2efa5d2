package rules

import "slices"

// Plan is the way from one ruleset to another: transactions to be restored in
// order, then jumps to insert. After each transaction every packet meets a fate
// that the old or the new ruleset gives it.
type Plan struct {
	Family       Family
	Transactions []Transaction
	Remove       []Jump // dead: to be removed, after the transactions
	Jumps        []Jump // missing, and in no transaction: to be inserted after that, in this order

	// Growth is by how much the plan makes the tables grow, all of it; nil: not known.
	Growth map[TableName]Growth
}

// Growth is a number of rules and chains; less than 0: there are fewer afterwards.
type Growth struct{ Rules, Chains int }

// Transaction is the content of one restore: one table, committed whole or not at all.
type Transaction struct {
	Table  TableName
	Write  []*Chain // created or replaced
	Delete []string // emptied and removed; nothing refers to them any more
	Jumps  []Jump   // to be inserted at the heads of built-in chains, in this order
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool {
	return len(p.Transactions) == 0 && len(p.Remove) == 0 && len(p.Jumps) == 0
}

// NewPlan returns the least to write to get from have to want. have may be empty
// (nothing of ours is there) but not nil. maxChains bounds the chains of one nat
// transaction where a table is loaded faster in parts; 0 means one transaction.
//
// Between the tables there is no atomicity, so the order keeps every moment safe:
// filter learns to refuse what nat will no longer serve before nat stops serving
// it, and forgets to refuse only after nat serves. A refusal that comes early or
// stays long does no harm: what nat serves no longer has the address it is for.
//
// A chain that is no longer wanted and that others' rules lead to cannot be
// removed; it stays, empty.
func NewPlan(have, want *Ruleset, maxChains int) *Plan {
	p := &Plan{Family: want.Family}
	held := have.holders()
	filter := held.changes(have.Table(Filter), want.Table(Filter))
	before, after := splitFilter(have.Table(Filter), filter)
	nat := held.changes(have.Table(Nat), want.Table(Nat))
	if len(nat.Write) == 0 && len(nat.Delete) == 0 {
		before, after = filter, Transaction{Table: Filter}
	}
	p.add(before, held)
	for _, tx := range splitNat(have.Table(Nat), want.Table(Nat), nat, maxChains) {
		p.add(tx, held)
	}
	p.add(after, held)
	p.Growth = map[TableName]Growth{}
	for _, t := range Tables() {
		p.jump(t, have, want)
		p.Growth[t] = p.growth(t, have)
	}
	return p
}

// growth is by how much the plan makes a table grow.
func (p *Plan) growth(t TableName, was *Ruleset) Growth {
	have := was.Table(t)
	out := Growth{Rules: len(jumpsOf(t, p.Jumps)) - len(jumpsOf(t, p.Remove))}
	count := func(c *Chain, sign int) {
		if c != nil {
			out.Rules += sign * len(c.Rules)
			out.Chains += sign
		}
	}
	now := map[string]*Chain{} // what is written so far, by name
	replace := func(name string, by *Chain) {
		old, written := now[name]
		if !written {
			old = have.Chain(name)
		}
		count(old, -1)
		count(by, 1)
		now[name] = by
	}
	for i := range p.Transactions {
		tx := &p.Transactions[i]
		if tx.Table != t {
			continue
		}
		out.Rules += len(tx.Jumps)
		for _, c := range tx.Write {
			replace(c.Name, c)
		}
		for _, name := range tx.Delete {
			replace(name, nil)
		}
	}
	return out
}

// jump adds what is wrong with the jumps into a table. Where there are none, its
// last transaction brings them: in a full table of the legacy backend a command for
// each takes as long as a load, since each copies the table. Else somebody has taken
// some away, may do so again at any time, and a command can look before it inserts.
func (p *Plan) jump(t TableName, have, want *Ruleset) {
	there := jumpsOf(t, have.Jumps)
	remove, insert := jumpChanges(there, jumpsOf(t, want.Jumps))
	last := -1
	for i := range p.Transactions {
		if p.Transactions[i].Table == t {
			last = i
		}
	}
	if len(there) == 0 && last >= 0 && !slices.Contains(have.Unreadable, t) {
		p.Transactions[last].Jumps = insert
		return
	}
	p.Remove = append(p.Remove, remove...)
	p.Jumps = append(p.Jumps, insert...)
}

// add adds a transaction, unless there is nothing in it.
func (p *Plan) add(tx Transaction, held holders) {
	held.spare(&tx)
	if len(tx.Write) > 0 || len(tx.Delete) > 0 {
		p.Transactions = append(p.Transactions, tx)
	}
}

func jumpsOf(t TableName, jumps []Jump) []Jump {
	return slices.DeleteFunc(slices.Clone(jumps), func(j Jump) bool { return j.Table != t })
}

// changes lists the chains that differ and those that are no longer wanted.
// Both tables are sorted, so one walk does; chains with the same pointer are not
// looked into.
func changes(have, want *Table) Transaction {
	tx := Transaction{Table: want.Name}
	h, w := have.Chains, want.Chains
	for len(h) > 0 || len(w) > 0 {
		switch {
		case len(h) > 0 && len(w) > 0 && h[0] == w[0]:
			h, w = h[1:], w[1:]
		case len(w) == 0 || len(h) > 0 && h[0].Name < w[0].Name:
			if !Shared(want.Name, h[0].Name) {
				tx.Delete = append(tx.Delete, h[0].Name)
			}
			h = h[1:]
		case len(h) == 0 || w[0].Name < h[0].Name:
			tx.Write = append(tx.Write, w[0])
			w = w[1:]
		default:
			if c := replacement(want.Name, h[0], w[0]); c != nil {
				tx.Write = append(tx.Write, c)
			}
			h, w = h[1:], w[1:]
		}
	}
	return tx
}

// replacement returns what to write so that have becomes want; nil if it is that
// already. In a shared chain the rules of others stay.
func replacement(t TableName, have, want *Chain) *Chain {
	if have == want || slices.Equal(have.Rules, want.Rules) {
		return nil
	}
	if !Shared(t, want.Name) {
		return want
	}
	missing := without(want.Rules, have.Rules)
	if len(missing) == 0 {
		return nil
	}
	return &Chain{Name: want.Name, Rules: append(missing, have.Rules...)}
}

// splitFilter divides the changes of the filter table into those that come
// before nat's and those that come after. A chain that only gains rules is
// written before; one that only loses some, after; one that does both holds the
// old and the new ones in between.
func splitFilter(have *Table, all Transaction) (before, after Transaction) {
	before = Transaction{Table: Filter}
	after = Transaction{Table: Filter, Delete: all.Delete}
	for _, c := range all.Write {
		old := have.Chain(c.Name)
		if old == nil || !refuses(c.Name) {
			before.Write = append(before.Write, c)
			continue
		}
		gained, lost := without(c.Rules, old.Rules), without(old.Rules, c.Rules)
		switch {
		case len(lost) == 0:
			before.Write = append(before.Write, c)
			continue
		case len(gained) > 0:
			both := append(slices.Clone(c.Rules), lost...)
			before.Write = append(before.Write, &Chain{Name: c.Name, Rules: both})
		}
		after.Write = append(after.Write, c)
	}
	return before, after
}

// refuses reports whether a filter chain holds rules that refuse what nat leaves.
func refuses(chain string) bool {
	return hasAnyPrefix(chain, chainServices, treeExternal, chainProxyFirewall, treeFirewall)
}

// without returns the rules of a that are not in b.
func without(a, b []Rule) []Rule {
	in := make(map[Rule]bool, len(b))
	for _, r := range b {
		in[r] = true
	}
	var out []Rule
	for _, r := range a {
		if !in[r] {
			out = append(out, r)
		}
	}
	return out
}

// splitNat cuts the changes of the nat table into transactions of at most max
// chains. A chain is written after all that it leads to, so that nothing can be
// reached before it is complete, and deleted after all that led to it.
func splitNat(have, want *Table, all Transaction, max int) []Transaction {
	if max <= 0 || len(all.Write)+len(all.Delete) <= max {
		return []Transaction{all}
	}
	var txs []Transaction
	stale := make([]*Chain, len(all.Delete))
	for i, name := range all.Delete {
		stale[i] = have.Chain(name)
	}
	stale = leavesFirst(have, stale)
	slices.Reverse(stale)
	for part := range slices.Chunk(leavesFirst(want, all.Write), max) {
		// iptables-nft-restore keeps the names of a transaction in a sorted list, and
		// finds the place of one at once where it is before all others.
		slices.SortFunc(part, func(a, b *Chain) int { return -compareChains(a, b) })
		txs = append(txs, Transaction{Table: Nat, Write: part})
	}
	for part := range slices.Chunk(stale, max) {
		tx := Transaction{Table: Nat}
		for _, c := range part {
			tx.Delete = append(tx.Delete, c.Name)
		}
		txs = append(txs, tx)
	}
	return txs
}

// leavesFirst orders chains so that each comes after those it leads to, and
// otherwise not by name: the kernel keeps them in the order in which they were
// made, and iptables-nft-save sorts them by a method that takes quadratic time where
// they are sorted already, 6 seconds instead of one for 10,000 Services.
func leavesFirst(t *Table, chains []*Chain) []*Chain {
	chains = slices.SortedFunc(slices.Values(chains), func(a, b *Chain) int { return compareHashes(a.Name, b.Name) })
	pending := make(map[string]*Chain, len(chains))
	for _, c := range chains {
		pending[c.Name] = c
	}
	out := make([]*Chain, 0, len(chains))
	visited := make(map[string]bool, len(chains))
	var visit func(c *Chain)
	visit = func(c *Chain) {
		if visited[c.Name] {
			return
		}
		visited[c.Name] = true
		for i := range c.Rules {
			if to := t.Chain(c.Rules[i].Jump()); to != nil {
				visit(to)
			}
		}
		if pending[c.Name] != nil {
			out = append(out, c)
		}
	}
	for _, c := range chains {
		visit(c)
	}
	return out
}
