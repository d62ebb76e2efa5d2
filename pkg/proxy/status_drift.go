package proxy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/status"
)

// maxDrifted bounds the Services and endpoints whose drift is kept apart.
const maxDrifted = 1000

// driftLog is the drift of one family since the start.
type driftLog struct {
	kinds  map[driftKind]int
	owners map[string]ownDrift // by what status.Owner says of the chain
	last   time.Time           // zero: there was none
	by     []string
}

type driftKind struct {
	table rules.TableName
	kind  rules.DriftKind
}

// ownDrift is what happened to the chains of one Service port or endpoint.
type ownDrift struct {
	count int
	last  time.Time
	by    []string
}

func newDriftLog() driftLog {
	return driftLog{kinds: map[driftKind]int{}, owners: map[string]ownDrift{}}
}

func (d *driftLog) clone() driftLog {
	return driftLog{kinds: maps.Clone(d.kinds), owners: maps.Clone(d.owners), last: d.last, by: d.by}
}

func (d *driftLog) add(found []rules.Drift, by []string, now time.Time) {
	for i := range found {
		f := &found[i]
		d.kinds[driftKind{f.Table, f.Kind}]++
		d.last, d.by = now, by
		owner, ok := status.Owner(f.Chain)
		o, there := d.owners[owner]
		if ok && (there || len(d.owners) < maxDrifted) {
			d.owners[owner] = ownDrift{o.count + 1, now, by}
		}
	}
}

// status is the drift of the family; nil: there was none.
func (d *driftLog) status() *status.Drift {
	if d.last.IsZero() {
		return nil
	}
	out := &status.Drift{Last: d.last, By: d.by}
	for k, n := range d.kinds {
		out.Count += n
		out.Kinds = append(out.Kinds, status.DriftKind{Table: string(k.table), Kind: string(k.kind), Count: n})
	}
	slices.SortFunc(out.Kinds, func(a, b status.DriftKind) int {
		return cmp.Or(strings.Compare(a.Table, b.Table), strings.Compare(a.Kind, b.Kind))
	})
	return out
}

// of is the drift of the chains that have any of the given owners; nil: there was none.
func (d *driftLog) of(owners []string) *status.Drift {
	var out *status.Drift
	for _, owner := range owners {
		o, ok := d.owners[owner]
		if !ok {
			continue
		}
		if out == nil {
			out = &status.Drift{}
		}
		out.Count += o.count
		if o.last.After(out.Last) {
			out.Last, out.By = o.last, o.by
		}
	}
	return out
}
