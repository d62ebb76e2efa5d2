package rules

import (
	"slices"
	"strings"
)

// TableName names a netfilter table.
type TableName string

const (
	Filter TableName = "filter"
	Nat    TableName = "nat"
)

// Tables lists the tables that are ours to write, in the order in which they
// are printed and written.
func Tables() []TableName { return []TableName{Filter, Nat} }

// Chain is a named list of rules. It is immutable: a chain that did not change
// between two rulesets keeps its pointer.
type Chain struct {
	Name   string
	Policy string // built-in chains only: ACCEPT or DROP; empty for our own
	Rules  []Rule
}

// Table holds the chains of one table, sorted by name.
type Table struct {
	Name   TableName
	Chains []*Chain
}

// Chain returns the chain of that name, or nil.
func (t *Table) Chain(name string) *Chain {
	i, ok := slices.BinarySearchFunc(t.Chains, name, func(c *Chain, name string) int {
		return strings.Compare(c.Name, name)
	})
	if !ok {
		return nil
	}
	return t.Chains[i]
}

func (t *Table) sort() { slices.SortFunc(t.Chains, compareChains) }

func compareChains(a, b *Chain) int { return strings.Compare(a.Name, b.Name) }

// Jump is a rule that leads from a built-in chain into one of ours.
type Jump struct {
	Table TableName
	Chain string // built-in chain
	Rule  Rule

	Position int  // its number in the chain, from 1; in a plan: where to insert it; 0 in what is wanted
	Dead     bool // what the kernel has: no packet gets to it, since a rule before it takes all
}

// Reference is a rule in a chain of somebody else's that leads to one of ours.
type Reference struct {
	Table TableName
	Chain string // ours
	From  string
}

// Ruleset is what svcproxy has or wants in the kernel for one family: its own
// chains, and the jumps that lead into them. Chains of others are no part of it.
type Ruleset struct {
	Family Family
	Tables []Table // sorted by name; a table without chains may be missing
	Jumps  []Jump  // wanted: in the order to insert each at the head of its chain

	// Held are references of others: while there is one, the kernel does not let our
	// chain be removed. Only of what the kernel has.
	Held []Reference
	// Unreadable are tables that the kernel has, and of which nothing is known, since
	// they hold rules that only nft can show.
	Unreadable []TableName
}

// Table returns the table of that name; an empty one if the ruleset has none.
func (r *Ruleset) Table(name TableName) *Table {
	for i := range r.Tables {
		if r.Tables[i].Name == name {
			return &r.Tables[i]
		}
	}
	return &Table{Name: name}
}
