package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
	"svcproxy/pkg/status"
)

// askStatus asks the svcproxy that runs, or else takes what can be known without it. It
// returns the answer, and whom to ask again.
func (o *options) askStatus(ctx context.Context, q *status.Query, stderr io.Writer) (*status.Report, statusSource, error) {
	c, err := newStatusClient(o.settings.MetricsBindAddress)
	if err == nil {
		var r *status.Report
		if r, err = c.report(ctx, q); err == nil {
			return r, c, nil
		}
	}
	if !errors.Is(err, errNotTold) {
		return nil, nil, err
	}
	fmt.Fprintf(stderr, "svcproxy: %v, so this is what the kernel has: without changes, drift and quarantine. "+
		"Give --%s as the svcproxy that runs has it, or start one.\n", err, metricsFlag)
	reader, err := o.newStatusReader(ctx, stderr)
	if err != nil {
		return nil, nil, err
	}
	r, err := reader.report(ctx, q)
	return r, reader, err
}

// statusReader makes reports without a svcproxy that runs.
type statusReader struct {
	*hostTables
	o    *options
	snap *rules.Snapshot // nil: there are no objects
}

func (o *options) newStatusReader(ctx context.Context, stderr io.Writer) (*statusReader, error) {
	host, err := o.openTables(ctx, false)
	if err != nil {
		return nil, explainKernel(err, "")
	}
	r := &statusReader{hostTables: host, o: o}
	if len(o.files) == 0 && o.settings.ClientConnection.Kubeconfig == "" && o.master == "" {
		return r, nil
	}
	snap, problems, err := o.snapshot(ctx)
	r.snap = snap
	sayProblems(stderr, problems)
	return r, err
}

func (r *statusReader) report(ctx context.Context, q *status.Query) (*status.Report, error) {
	out := &status.Report{APIVersion: status.APIVersion, Node: status.Node{
		Source: status.FromKernel, Backend: string(r.backend), Now: time.Now(),
	}}
	read := r.fromRules
	if r.snap != nil {
		read = r.fromObjects
		out.Node.Source, out.Node.Name = status.FromObjects, r.snap.Node.Name
	}
	services, err := read(ctx, &out.Node)
	if err != nil {
		return nil, err
	}
	out.Node.Services = len(services)
	return out, r.choose(out, services, q)
}

// fromObjects describes the Services that there are objects for.
func (r *statusReader) fromObjects(_ context.Context, node *status.Node) ([]status.Service, error) {
	var out []status.Service
	configs := map[rules.Family]*rules.Config{}
	for _, f := range r.families {
		cfg := r.o.config(f)
		configs[f] = &cfg
		node.Families = append(node.Families, status.Family{Family: f.String()})
	}
	for _, svc := range r.snap.Services {
		var inForce []status.InForce
		for _, f := range r.families {
			inForce = append(inForce, status.InForce{Config: configs[f], Node: &r.snap.Node, Service: svc})
		}
		out = append(out, status.Describe(svc, inForce))
	}
	return out, nil
}

// fromRules reads the Services out of the kernel's rules.
func (r *statusReader) fromRules(ctx context.Context, node *status.Node) ([]status.Service, error) {
	var out []status.Service
	for _, f := range r.families {
		rs, err := r.tables[f].Peek(ctx)
		if err != nil {
			return nil, explainKernel(err, "")
		}
		n := rs.Counts()
		node.Families = append(node.Families, status.Family{Family: f.String(), Rules: status.RuleCounts{Filter: n.FilterRules, Nat: n.NatRules}})
		out = status.Merge(out, status.FromRules(rs))
	}
	return out, nil
}

// choose puts those Services into the report that the query asks for.
func (r *statusReader) choose(out *status.Report, services []status.Service, q *status.Query) error {
	counts := counterSet{tables: r.tables}
	defer counts.close()
	var chosen []*status.Service
	var names []status.Name
	for i := range services {
		s := &services[i]
		names = append(names, status.Name{Namespace: s.Namespace, Name: s.Name})
		if q.Has(s.Namespace, s.Name) && (!q.Trouble || s.Trouble()) {
			chosen = append(chosen, s)
		}
	}
	if err := sortServices(chosen, q.Sort, &counts); err != nil {
		return explainKernel(err, "")
	}
	shown := status.Page(q, chosen)
	flows, err := r.flows(q)
	if err != nil {
		return err
	}
	for _, s := range shown {
		if flows != nil {
			s.CountFlows(flows)
		}
		if err := s.Measure(counts.each); err != nil {
			return explainKernel(err, "")
		}
		out.Services = append(out.Services, *s)
	}
	out.Selection = status.Selection{
		Total: len(services), Matched: len(chosen), Offset: q.Offset, Shown: len(shown), Unknown: status.Missed(q.Names, names),
	}
	return nil
}

// flows counts conntrack's flows; nil: they are not asked for.
func (r *statusReader) flows(q *status.Query) (status.FlowCounts, error) {
	if !q.Flows {
		return nil, nil
	}
	counts := status.FlowCounts{}
	for _, f := range r.families {
		for _, protocol := range status.Protocols() {
			if err := kernel.NewFlows(f).Each(protocol, counts.Add); err != nil {
				return nil, err
			}
		}
	}
	return counts, nil
}

func sortServices(list []*status.Service, by status.Order, counts *counterSet) error {
	switch by {
	case status.ByConnections:
		return status.SortBy(list, func(s *status.Service) (uint64, error) {
			err := s.Measure(counts.each)
			n, _ := s.Connections()
			return n, err
		})
	case status.ByEndpoints:
		return status.SortBy(list, func(s *status.Service) (uint64, error) { return s.EndpointCount(), nil })
	}
	return nil // without changes, ByChange leaves them by name
}

// counterSet opens the counters of each family when they are asked for.
type counterSet struct {
	tables map[rules.Family]*kernel.Tables
	open   map[string]*kernel.JumpCounts
}

func (c *counterSet) each(family, chain string, f func(string, uint64)) error {
	if c.open == nil {
		c.open = map[string]*kernel.JumpCounts{}
	}
	if c.open[family] == nil {
		for f, t := range c.tables {
			if f.String() != family {
				continue
			}
			counts, err := t.JumpCounts()
			if err != nil {
				return err
			}
			c.open[family] = counts
		}
	}
	return c.open[family].Each(chain, f)
}

func (c *counterSet) close() {
	for _, counts := range c.open {
		counts.Close()
	}
}
