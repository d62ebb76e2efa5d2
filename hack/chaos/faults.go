package main

import (
	"context"
	"slices"
	"time"

	"svcproxy/hack/internal/wait"
)

// fault is one thing that goes wrong.
type fault struct {
	name string
	how  string // how it is made, and how it ends, for the page

	// gone: somebody takes rules away, so connections must fail until they are back.
	gone bool
	// stuck: the proxy cannot hear of changes, or not write, for longer than grace, so
	// connections get to pods that have left.
	stuck bool
	// late is how long svcproxy may take to notice that it is over, and why.
	late    time.Duration
	because string

	// times is how often it is tried in each round; 0: once.
	times int

	// make makes it, and returns when it is over.
	make func(context.Context, *scene) error
}

// faults are all there are, in the order of the page.
func faults() []*fault {
	return slices.Concat(processFaults(), serverFaults(), commandFaults(), ruleFaults(), stormFaults())
}

func faultNames() []string {
	var out []string
	for _, f := range faults() {
		out = append(out, f.name)
	}
	return out
}

// chosen are the faults to try.
func (o *options) chosen() []*fault {
	return slices.DeleteFunc(faults(), func(f *fault) bool { return len(o.faults) > 0 && !slices.Contains(o.faults, f.name) })
}

// long is how long a fault lasts: less if they are to be brief.
func (s *scene) long(full, brief time.Duration) time.Duration {
	if s.opts.brief {
		return brief
	}
	return full
}

// upTo is a random time.
func (s *scene) upTo(d time.Duration) time.Duration { return time.Duration(s.random.Int64N(int64(d))) }

// last has a fault last for a while, then undoes it, also if it is interrupted.
func last(ctx context.Context, d time.Duration, undo func() error) error {
	waited := wait.Sleep(ctx, d)
	if err := undo(); err != nil {
		return err
	}
	return waited
}
