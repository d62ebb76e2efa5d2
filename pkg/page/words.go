package page

import (
	"fmt"
	"strings"
	"time"

	"svcproxy/pkg/status"
)

// node is the summary of the node, in words.
type node struct {
	Name, Version, Backend string
	Services               int
	Healthy, Leaving       bool
	Problems               int
	Counters               string // why there are none
	Asof                   string
	Families               []family
}

// family is the summary of one address family.
type family struct {
	Name, Sync, Pending, Error string
	Endpoints, Nat, Filter     int
	Drift                      string
	Kinds                      []string
	Missing                    []status.Missing
	Refused                    []refused
}

// refused is a Service in quarantine.
type refused struct{ Service, InForce, Since, Next, Reason, Rule string }

func nodeOf(r *status.Report) node {
	n := &r.Node
	out := node{
		Name: n.Name, Version: n.Version, Backend: n.Backend, Services: n.Services, Healthy: n.Healthy != nil && *n.Healthy,
		Leaving: n.Leaving, Problems: n.Problems, Counters: n.Counters, Asof: n.Now.Format("15:04:05"),
	}
	for i := range n.Families {
		out.Families = append(out.Families, familyOf(&n.Families[i], n.Now))
	}
	return out
}

func familyOf(f *status.Family, now time.Time) family {
	out := family{Name: f.Family, Endpoints: f.Endpoints, Nat: f.Rules.Nat, Filter: f.Rules.Filter, Missing: f.Missing, Sync: "not yet"}
	if s := f.Sync; s != nil {
		if s.Last != nil {
			out.Sync = status.Ago(*s.Last, now) + " ago, in " + status.Took(s.Seconds)
		}
		if s.Pending != nil {
			out.Pending = status.Ago(*s.Pending, now)
		}
		out.Error = s.Error
	}
	if f.Drift != nil {
		out.Drift = f.Drift.Words(now)
		for _, k := range f.Drift.Kinds {
			out.Kinds = append(out.Kinds, fmt.Sprintf("%s %s: %d", k.Table, strings.ReplaceAll(k.Kind, "_", " "), k.Count))
		}
	}
	for i := range f.Refused {
		out.Refused = append(out.Refused, refusedOf(&f.Refused[i], now))
	}
	return out
}

func refusedOf(q *status.Quarantine, now time.Time) refused {
	return refused{q.Service, q.InForce, status.Ago(q.Since, now), status.Human(q.Next.Sub(now)), q.Reason, q.Rule}
}
