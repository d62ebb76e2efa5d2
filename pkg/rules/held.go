package rules

import (
	"cmp"
	"slices"
	"strings"
)

// holders says who leads to each chain of ours that the kernel does not let go:
// a chain of somebody else's, or a built-in one.
type holders map[heldChain]string

type heldChain struct {
	table TableName
	chain string
}

func (r *Ruleset) holders() holders {
	out := holders{}
	for _, ref := range r.Held {
		out[heldChain{ref.Table, ref.Chain}] = ref.From
	}
	for i := range r.Jumps {
		j := &r.Jumps[i]
		out[heldChain{j.Table, j.Rule.Jump()}] = j.Chain
	}
	return out
}

// changes leaves out the stale chains that are held and empty: they are as good
// as gone.
func (h holders) changes(have, want *Table) Transaction {
	tx := changes(have, want)
	tx.Delete = slices.DeleteFunc(tx.Delete, func(name string) bool {
		return h[heldChain{tx.Table, name}] != "" && len(have.Chain(name).Rules) == 0
	})
	return tx
}

// spare has a transaction only empty what it cannot delete.
func (h holders) spare(tx *Transaction) {
	tx.Delete = slices.DeleteFunc(slices.Clone(tx.Delete), func(name string) bool {
		held := h[heldChain{tx.Table, name}] != ""
		if held {
			tx.Write = append(tx.Write, &Chain{Name: name})
		}
		return held
	})
}

// HeldStale returns the references to chains of have that want does not have:
// these stay, empty, because of them.
func HeldStale(have, want *Ruleset) []Reference {
	var out []Reference
	for to, from := range have.holders() {
		if !Shared(to.table, to.chain) && want.Table(to.table).Chain(to.chain) == nil {
			out = append(out, Reference{Table: to.table, Chain: to.chain, From: from})
		}
	}
	slices.SortFunc(out, func(a, b Reference) int {
		return cmp.Or(strings.Compare(string(a.Table), string(b.Table)), strings.Compare(a.Chain, b.Chain))
	})
	return out
}
