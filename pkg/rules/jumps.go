package rules

import "slices"

// final reports whether a rule of a built-in chain takes every packet that gets
// to it, so that none gets further. Where it leads to a chain of somebody's, only
// a goto is sure not to come back.
func (r *Rule) final() bool {
	bare, x := *r, r.Rare()
	bare.Comment, bare.Target = "", Target{}
	x.RandomFully, x.RejectWith = false, ""
	if bare.With(x) != (Rule{}) {
		return false
	}
	switch r.Target.Name {
	case Accept, Drop, Return, Reject, DNAT, Masquerade:
		return true
	}
	return r.Target.Goto
}

// same reports whether two jumps are the same rule in the same chain, wherever.
func (j *Jump) same(other *Jump) bool {
	return j.sameChain(other) && j.Rule == other.Rule
}

func (j *Jump) sameChain(other *Jump) bool {
	return j.Table == other.Table && j.Chain == other.Chain
}

// jumpChanges returns the jumps to remove, then those to insert, each at its
// Position when its turn comes. A jump is inserted where it is missing or all of
// its like are dead; these are removed. It comes to stand behind the wanted one
// before it, so that their order is as on a fresh host, whatever is missing; at
// the head, if there is none. A second copy of a jump does no harm and stays: a
// rule can be removed by what it says alone, for where it is may change any
// moment, and that would be the first copy.
func jumpChanges(have, want []Jump) (remove, insert []Jump) {
	var live []Jump
	for _, j := range have {
		if !j.Dead {
			live = append(live, j)
		}
	}
	for i := range want {
		j := want[i]
		if find(live, &j) >= 0 {
			continue
		}
		for _, dead := range have {
			if dead.same(&j) {
				remove = append(remove, dead)
			}
		}
		j.Position = 1 + above(live, want[i:])
		insert = append(insert, j)
	}
	return remove, insert
}

// above returns the position of the nearest jump that is to stand before the first
// one of want: those come after it, as each is inserted before the others. It is 0
// if there is none.
func above(live, want []Jump) int {
	for k := 1; k < len(want); k++ {
		if i := find(live, &want[k]); i >= 0 && want[k].sameChain(&want[0]) {
			return live[i].Position
		}
	}
	return 0
}

// find returns the index of the first like j; -1 if there is none.
func find(jumps []Jump, j *Jump) int {
	return slices.IndexFunc(jumps, func(other Jump) bool { return other.same(j) })
}
