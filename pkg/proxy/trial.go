package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

const (
	// maxRefusals bounds the restores that one sync has refused. To find one Service
	// among 10,000 takes twenty at most; what is left goes on in the next sync.
	maxRefusals = 64

	// maxExact is how many refusals that name a Service are followed one by one at
	// first. Then all Services that the refused transaction changes are suspects.
	maxExact = 8
)

// trial finds out which Services of a snapshot the kernel takes. Rules for any of
// them without the others are a valid ruleset, so each step is a plan like all
// others, and packets meet the fates of Services as they were or are to be. No step
// deletes chains: those of Services that come back later would be written again.
type trial struct {
	f        *familySync
	snap     *rules.Snapshot
	goal     []*rules.Service // of each Service, what is to be in force in the end; nil: nothing
	now      []*rules.Service // of each, what the next step has
	refusals int
	inexact  bool // what a refusal names is not heeded
}

func newTrial(f *familySync, snap *rules.Snapshot, goal []*rules.Service) *trial {
	return &trial{f: f, snap: snap, goal: goal, now: slices.Clone(goal)}
}

// refusal is a step that was refused.
type refusal struct {
	cause    *kernel.RestoreError
	suspects []int // places in the snapshot
	exact    bool  // see rules.Builder.Suspects
}

// refused returns the refusal in an error, if it is one: nothing that passes by
// itself, as a lock does that somebody holds.
func refused(err error) *kernel.RestoreError {
	var r *kernel.RestoreError
	if errors.As(err, &r) && r.Refused() {
		return r
	}
	return nil
}

// try takes one step. What the kernel has afterwards is known, also if it refused.
func (t *trial) try(ctx context.Context) (*refusal, error) {
	f, snap := t.f, compose(t.snap, t.now)
	plan := rules.NewPlan(f.have, f.builder.Build(snap), f.maxChains).WithoutDeletes()
	if plan.Empty() {
		return nil, nil
	}
	if t.refusals == maxRefusals {
		return nil, fmt.Errorf("%d restores were refused in this sync, the search for the Services at fault goes on in the next one", t.refusals)
	}
	f.flows.syncing(snap)
	have := f.have
	f.have = nil
	err := f.kernel.Apply(ctx, plan)
	cause := refused(err)
	switch {
	case err == nil:
		f.have = plan.After(have, len(plan.Transactions))
		return nil, nil
	case cause == nil:
		return nil, err
	}
	t.refusals++
	f.have = plan.After(have, cause.Done)
	if f.overtaken(ctx) {
		f.forget()
		return nil, fmt.Errorf("somebody else changed the tables meanwhile, which are to be read again: %w", err)
	}
	lines := cause.Lines()
	if t.inexact {
		lines = nil
	}
	services, exact := f.builder.Suspects(f.have, &plan.Transactions[cause.Done], lines)
	return &refusal{cause, t.places(services), exact}, nil
}

// places returns where the given Services are in the snapshot, in the same order.
func (t *trial) places(services []*rules.Service) []int {
	var out []int
	for i, svc := range t.snap.Services {
		if len(services) > 0 && nameOf(svc) == nameOf(services[0]) {
			out, services = append(out, i), services[1:]
		}
	}
	return out
}

// isolate leaves out suspects until the kernel takes the rest. It returns them in
// groups, each with at least one at fault. Whoever had other rules before goes back
// to these at first: the kernel has them.
func (t *trial) isolate(ctx context.Context) ([][]int, error) {
	var groups [][]int
	defer func() { t.inexact = false }()
	for round := 1; ; round++ {
		t.inexact = round > maxExact
		r, err := t.try(ctx)
		if err != nil || r == nil {
			return groups, err
		}
		left := false
		var group []int
		for _, i := range r.suspects {
			if t.now[i] == nil {
				continue
			}
			if t.now[i] == t.goal[i] {
				group = append(group, i)
			}
			t.now[i], left = t.lesser(i), true
		}
		switch {
		case !left:
			return nil, r.cause
		case r.exact:
			groups = append(groups, slices.Collect(slices.Chunk(group, 1))...)
		case len(group) > 0:
			groups = append(groups, group)
		}
	}
}

// lesser returns what to try in place of a suspect: what the kernel took before, or
// nothing.
func (t *trial) lesser(i int) *rules.Service {
	if t.now[i] != t.goal[i] {
		return nil
	}
	if old := t.f.taken(t.snap.Services[i]); old != t.goal[i] {
		return old
	}
	return nil
}

// with takes a step with more Services as they are to be, and goes back if it is
// refused.
func (t *trial) with(ctx context.Context, more []int) (*refusal, error) {
	before := slices.Clone(t.now)
	for _, i := range more {
		t.now[i] = t.goal[i]
	}
	r, err := t.try(ctx)
	if err != nil || r != nil {
		t.now = before
	}
	return r, err
}

// readmit takes a group of Services back, at least one of which is at fault: it
// halves the group until one is left that can be at fault, deals with that, and goes
// on with all others. So k Services at fault among n take k times log n steps.
func (t *trial) readmit(ctx context.Context, group []int) error {
	suspects := group
	for len(group) > 0 {
		for len(suspects) > 1 {
			half := suspects[:len(suspects)/2]
			r, err := t.with(ctx, half)
			switch {
			case err != nil:
				return err
			case r == nil:
				group, suspects = less(group, half), less(suspects, half)
			default:
				suspects = narrow(half, r)
			}
		}
		if err := t.judge(ctx, suspects[0]); err != nil {
			return err
		}
		group = less(group, suspects[:1])
		r, err := t.with(ctx, group)
		if err != nil || r == nil {
			return err
		}
		suspects = narrow(group, r)
	}
	return nil
}

// narrow returns those of a group that a refusal makes suspects; all if it makes none.
func narrow(group []int, r *refusal) []int {
	if both := less(group, less(group, r.suspects)); len(both) > 0 {
		return both
	}
	return group
}

// less returns the elements of a that are not in b.
func less(a, b []int) []int {
	in := make(map[int]bool, len(b))
	for _, i := range b {
		in[i] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(i int) bool { return in[i] })
}

// judge tries one Service alone on top of what the kernel took. Only if that is
// refused is it at fault, and then the first of its stand-ins that the kernel takes
// is in force.
func (t *trial) judge(ctx context.Context, i int) error {
	q, svc := t.f.quarantine, t.snap.Services[i]
	m := q.inmates[nameOf(svc)]
	if m == nil {
		m = &inmate{now: svc, before: t.f.taken(svc)}
	}
	was := t.now[i]
	var cause *kernel.RestoreError
	kind := m.kind
	for ; kind != absent; kind++ {
		if t.now[i] = m.standIn(kind); t.now[i] == nil {
			continue
		}
		r, err := t.try(ctx)
		if err != nil {
			t.now[i] = was
			return err
		}
		if r == nil {
			break
		}
		if cause == nil {
			cause = r.cause
		}
	}
	if kind == absent {
		t.now[i] = nil
	}
	if kind != m.kind {
		q.admit(ctx, m, kind, cause)
	}
	return nil
}

// finish brings the kernel from the last step to what is in force, and deletes what
// the steps left behind.
func (t *trial) finish(ctx context.Context) error {
	_, err := t.f.write(ctx, compose(t.snap, t.now))
	return err
}
