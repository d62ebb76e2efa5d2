package main

import (
	"cmp"
	"fmt"
	"slices"
)

// The measures. A time is in seconds, memory in bytes.
type measure string

const (
	firstSync    measure = "first sync"
	firstSyncCPU measure = "CPU of the first sync"
	change       measure = "one endpoint changed"
	changeCPU    measure = "CPU of one change"
	changeInput  measure = "input of one change"
	changeRuns   measure = "commands of one change"
	bareRestore  measure = "the same lines, restored without a proxy"
	memory       measure = "memory"
	restart      measure = "restart on a right node"
	restartRuns  measure = "writes of a restart"
	connectFirst measure = "connect, first Service"
	connectLast  measure = "connect, last Service"
	connectNone  measure = "connect, no Service"
	oneService   measure = "connect, the only Service"       // beside the three above, on a
	oneNone      measure = "connect, no Service, one exists" // node that knows one Service
)

// size is how much there is to serve: Services of two endpoints each, or one
// Service of many endpoints.
type size struct{ services, endpoints int }

// key is what a series is of.
type key struct {
	measure measure
	proxy   string
	size    size
}

// series is what was measured of one thing.
type series struct {
	values []float64
	over   bool // the time limit: what is there is the limit
}

func (s *series) median() float64 {
	sorted := slices.Sorted(slices.Values(s.values))
	n := len(sorted)
	if n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[n/2]
}

func (s *series) min() float64 { return slices.Min(s.values) }
func (s *series) max() float64 { return slices.Max(s.values) }

// results holds all series.
type results map[key]*series

func (r results) add(m measure, proxy string, s size, value float64) {
	k := key{m, proxy, s}
	if r[k] == nil {
		r[k] = &series{}
	}
	r[k].values = append(r[k].values, value)
}

// overLimit notes that a first sync was given up.
func (r results) overLimit(proxy string, s size, limit float64) {
	r[key{firstSync, proxy, s}] = &series{values: []float64{limit}, over: true}
}

// sizes lists those measured: of one Service last, each by number.
func (r results) sizes() []size {
	seen := map[size]bool{}
	for k := range r {
		seen[k.size] = true
	}
	var out []size
	for s := range seen {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b size) int {
		if c := cmp.Compare(min(b.services, 2), min(a.services, 2)); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.services, b.services), cmp.Compare(a.endpoints, b.endpoints))
	})
	return out
}

// String is how the report calls a size.
func (s size) String() string {
	if s.endpoints != 2 {
		return fmt.Sprintf("1 Service x %d endpoints", s.endpoints)
	}
	return fmt.Sprintf("%d Services x 2", s.services)
}
