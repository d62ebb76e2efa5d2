package proxy

import (
	"context"
	"fmt"
	"time"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/status"
)

// Report answers a query: it hands over the report without its Services, then those
// one by one in their order, so that there is never more than one of them in memory.
// It may be called at any time. An error of begin or of each ends it.
func (p *Proxy) Report(ctx context.Context, q *status.Query, begin func(*status.Report) error, each func(*status.Service) error) error {
	r := reporter{p: p, q: q, view: p.look()}
	defer r.close()
	services, unknown := r.selected()
	if err := r.sort(services); err != nil {
		return err
	}
	matched := len(services)
	services = status.Page(q, services)
	if q.Counters {
		r.openAll()
	}
	if q.Flows {
		if err := r.countFlows(); err != nil {
			return err
		}
	}
	report := &status.Report{
		APIVersion: status.APIVersion, Node: r.node(),
		Selection: status.Selection{Total: len(r.view.snap.Services), Matched: matched, Offset: q.Offset, Shown: len(services), Unknown: unknown},
	}
	if err := begin(report); err != nil {
		return err
	}
	for _, svc := range services {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		one := r.describe(svc)
		if q.Counters && r.failed == nil {
			if err := one.Measure(r.eachJump); err != nil {
				r.failed = err // the rest is told without
			}
		}
		if q.Flows {
			one.CountFlows(r.flows)
		}
		if err := each(&one); err != nil {
			return err
		}
	}
	return nil
}

// reporter makes one report.
type reporter struct {
	p      *Proxy
	q      *status.Query
	view   *view
	counts map[string]JumpCounts // by family, once they were asked for
	failed error                 // why there are no counters
	flows  status.FlowCounts     // nil: not asked for
}

func (r *reporter) close() {
	for _, c := range r.counts {
		c.Close()
	}
}

// selected returns the Services that were asked for, and the names that none has.
func (r *reporter) selected() ([]*rules.Service, []status.Unknown) {
	var out []*rules.Service
	var all []status.Name
	for _, svc := range r.view.snap.Services {
		if len(r.q.Names) > 0 {
			all = append(all, status.Name{Namespace: svc.Namespace, Name: svc.Name})
		}
		if !r.q.Has(svc.Namespace, svc.Name) {
			continue
		}
		if r.q.Trouble {
			if s := r.describe(svc); !s.Trouble() {
				continue
			}
		}
		out = append(out, svc)
	}
	return out, status.Missed(r.q.Names, all)
}

// sort puts the Services, which are sorted by name, in the order asked for.
func (r *reporter) sort(services []*rules.Service) error {
	var key func(*rules.Service) (uint64, error)
	switch r.q.Sort {
	case status.ByConnections:
		key = r.connections
	case status.ByEndpoints:
		key = func(s *rules.Service) (uint64, error) { return endpointsOf(s), nil }
	case status.ByChange:
		key = func(s *rules.Service) (uint64, error) {
			if c := r.p.changeOf(r.view, nameOf(s)); !c.at.IsZero() {
				return uint64(c.at.UnixNano()), nil
			}
			return 0, nil
		}
	default:
		return nil
	}
	return status.SortBy(services, key)
}

func endpointsOf(s *rules.Service) uint64 {
	n := 0
	for i := range s.Ports {
		n += len(s.Ports[i].Endpoints)
	}
	return uint64(n)
}

// connections reads how many connections a Service has had.
func (r *reporter) connections(svc *rules.Service) (uint64, error) {
	s := r.describe(svc)
	if err := s.Measure(r.eachJump); err != nil {
		return 0, fmt.Errorf("sort by connections: %w", err)
	}
	n, _ := s.Connections()
	return n, nil
}

// eachJump reads the counters of a chain; see status.EachJump.
func (r *reporter) eachJump(family, chain string, f func(string, uint64)) error {
	c, err := r.open(family)
	if err != nil {
		return err
	}
	return c.Each(chain, f)
}

// countFlows goes through conntrack.
func (r *reporter) countFlows() error {
	r.flows = status.FlowCounts{}
	for i := range r.view.families {
		f := &r.view.families[i]
		if f.live.EachFlow == nil {
			continue
		}
		for _, protocol := range status.Protocols() {
			if err := f.live.EachFlow(protocol, r.flows.Add); err != nil {
				return err
			}
		}
	}
	return nil
}

// openAll finds out whether there are counters.
func (r *reporter) openAll() {
	for i := range r.view.families {
		if _, err := r.open(r.view.families[i].config.Family.String()); err != nil {
			r.failed = err
			return
		}
	}
}

func (r *reporter) open(family string) (JumpCounts, error) {
	if c := r.counts[family]; c != nil {
		return c, nil
	}
	for i := range r.view.families {
		f := &r.view.families[i]
		if f.config.Family.String() != family || f.live.JumpCounts == nil {
			continue
		}
		c, err := f.live.JumpCounts()
		if err != nil {
			return nil, err
		}
		if r.counts == nil {
			r.counts = map[string]JumpCounts{}
		}
		r.counts[family] = c
		return c, nil
	}
	return nil, fmt.Errorf("%s: there are no counters", family)
}

// describe returns a Service with all but its counters.
func (r *reporter) describe(svc *rules.Service) status.Service {
	name := nameOf(svc)
	inForce := make([]status.InForce, 0, 2)
	for i := range r.view.families {
		f := &r.view.families[i]
		if now := f.inForceOf(name); now != nil {
			inForce = append(inForce, status.InForce{Config: &f.config, Node: &f.inForce.Node, Service: now})
		}
	}
	out := status.Describe(svc, inForce)
	if c := r.p.changeOf(r.view, name); !c.at.IsZero() {
		out.Changed = &status.Change{At: c.at, Seconds: seconds(c.took)}
	}
	r.trouble(&out)
	return out
}

// trouble adds quarantine and drift.
func (r *reporter) trouble(s *status.Service) {
	for i := range r.view.families {
		f := &r.view.families[i]
		for _, q := range f.refused {
			if q.Namespace == s.Namespace && q.Name == s.Name {
				s.Quarantine = append(s.Quarantine, q.status())
			}
		}
		if len(f.drift.owners) == 0 {
			continue
		}
		if d := f.drift.of(s.Owners()); d != nil && (s.Drift == nil || d.Last.After(s.Drift.Last)) {
			if s.Drift != nil {
				d.Count += s.Drift.Count
			}
			s.Drift = d
		} else if d != nil {
			s.Drift.Count += d.Count
		}
	}
}

func (q *Quarantined) status() status.Quarantine {
	return status.Quarantine{
		Family: q.Family.String(), Service: q.Port, Rule: q.Line, Reason: q.Reason, InForce: q.InForce, Since: q.Since, Next: q.Next,
	}
}

// node is the summary of the node.
func (r *reporter) node() status.Node {
	v := r.view
	healthy := r.p.health.Healthy()
	out := status.Node{
		Name: v.snap.Node.Name, Source: status.FromProxy, Version: r.p.opts.Version, Now: v.now, Started: &v.started,
		Healthy: &healthy, Leaving: v.snap.Node.Leaving, Services: len(v.snap.Services), Problems: v.problems,
	}
	if r.failed != nil {
		out.Counters = r.failed.Error()
	}
	for i := range v.families {
		out.Backend = string(v.families[i].live.Backend)
		out.Families = append(out.Families, v.families[i].status())
	}
	return out
}

func (f *familyView) status() status.Family {
	n := f.counts
	out := status.Family{
		Family: f.config.Family.String(), Endpoints: n.Endpoints, Rules: status.RuleCounts{Filter: n.FilterRules, Nat: n.NatRules},
		Sync: &status.Sync{Seconds: seconds(f.took)}, Drift: f.drift.status(),
	}
	if at := f.health.updated; !at.IsZero() {
		out.Sync.Last = &at
	}
	if at := f.health.pending; !at.IsZero() {
		out.Sync.Pending = &at
	}
	if f.err != nil {
		out.Sync.Error = f.err.Error()
	}
	for _, m := range f.config.Missing.Infos() {
		out.Missing = append(out.Missing, status.Missing{Name: m.Name, Without: m.Without})
	}
	for i := range f.refused {
		out.Refused = append(out.Refused, f.refused[i].status())
	}
	return out
}

// seconds rounds to what is worth telling.
func seconds(d time.Duration) float64 { return d.Round(10 * time.Microsecond).Seconds() }
