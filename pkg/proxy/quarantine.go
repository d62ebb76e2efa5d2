package proxy

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// Quarantined is a Service that the kernel refuses in one family. All others are
// served.
type Quarantined struct {
	Family          rules.Family
	Namespace, Name string

	Port    string // whose rule was refused: namespace/name:port; without :port if that cannot be told
	Line    string // the rule, as input for iptables-restore; empty: the command did not say
	Reason  string // the command's words
	InForce string // what is served instead
	Since   time.Time
	Next    time.Time // when it is tried again, at the earliest
}

// ServiceEvent is what the users of a Service should know.
type ServiceEvent struct {
	Namespace, Name string
	Warning         bool   // else all is well
	Reason, Action  string // each one word, for machines: why, and what was being done
	Message         string
}

// quarantine is the Services that the kernel refuses in one family.
type quarantine struct {
	family  rules.Family
	inmates map[serviceName]*inmate
	event   func(ServiceEvent)
	list    atomic.Pointer[[]Quarantined] // for others than the loop
}

func newQuarantine(f rules.Family, event func(ServiceEvent)) *quarantine {
	if event == nil {
		event = func(ServiceEvent) {}
	}
	return &quarantine{family: f, inmates: map[serviceName]*inmate{}, event: event}
}

// goal returns of each Service of a snapshot what is to be in force; nil: nothing.
// It follows the Services in quarantine and forgets those that are gone.
func (q *quarantine) goal(ctx context.Context, snap *rules.Snapshot) []*rules.Service {
	goal := slices.Clone(snap.Services)
	if len(q.inmates) == 0 {
		return goal
	}
	left := map[serviceName]*inmate{}
	for i, svc := range snap.Services {
		m := q.inmates[nameOf(svc)]
		if m == nil {
			continue
		}
		if m.now != svc {
			m.follow(svc)
		}
		goal[i], left[nameOf(svc)] = m.value, m
	}
	for name := range q.inmates {
		if left[name] == nil {
			klog.FromContext(ctx).Info("A Service in quarantine is gone", "family", q.family, "service", name.namespace+"/"+name.name)
		}
	}
	q.inmates = left
	return goal
}

// compose returns a snapshot with what is in force in place of its Services.
func compose(snap *rules.Snapshot, inForce []*rules.Service) *rules.Snapshot {
	if slices.Equal(snap.Services, inForce) {
		return snap
	}
	out := *snap
	out.Services = slices.DeleteFunc(slices.Clone(inForce), func(s *rules.Service) bool { return s == nil })
	return &out
}

// admit puts a Service into quarantine, or notes that less of it is in force.
func (q *quarantine) admit(ctx context.Context, m *inmate, kind standIn, cause *kernel.RestoreError) {
	if m.since.IsZero() {
		m.since = time.Now()
	}
	m.kind, m.value, m.cause = kind, m.standIn(kind), cause
	m.failed()
	q.inmates[nameOf(m.now)] = m
	port := m.now.PortIn(cause.Text)
	klog.FromContext(ctx).Error(cause, "A Service is refused and in quarantine, all others are served", "family", q.family,
		"service", port, "inForce", kind.String(), "tryAgain", m.wait)
	q.event(ServiceEvent{m.now.Namespace, m.now.Name, true, "RulesRefused", "SyncRules",
		q.family.String() + " rules of " + port + " are refused by this node's kernel; in force: " + kind.String() + "; " + cause.Error()})
}

// release ends the quarantine of a Service that the kernel has taken.
func (q *quarantine) release(ctx context.Context, m *inmate) {
	delete(q.inmates, nameOf(m.now))
	name := m.now.Namespace + "/" + m.now.Name
	klog.FromContext(ctx).Info("A Service is out of quarantine and served", "family", q.family, "service", name, "after", time.Since(m.since))
	q.event(ServiceEvent{m.now.Namespace, m.now.Name, false, "RulesAccepted", "SyncRules", q.family.String() + " rules of " + name + " are in force on this node"})
}

// due returns the Services whose time has come, the longest overdue first.
func (q *quarantine) due() []*inmate {
	var out []*inmate
	now := time.Now()
	for _, m := range q.inmates {
		if !m.due().After(now) {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b *inmate) int {
		return cmp.Or(a.due().Compare(b.due()), compareNames(nameOf(a.now), nameOf(b.now)))
	})
	return out
}

func compareNames(a, b serviceName) int {
	return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
}

// next is when the first Service is due; zero: there is none.
func (q *quarantine) next() time.Time {
	var first time.Time
	for _, m := range q.inmates {
		if d := m.due(); first.IsZero() || d.Before(first) {
			first = d
		}
	}
	return first
}

// unserved returns the snapshot with Services that nobody is served by less their
// endpoints: load balancers must not take this node for one that serves them.
func (q *quarantine) unserved(snap *rules.Snapshot) *rules.Snapshot {
	if len(q.inmates) == 0 {
		return snap
	}
	services := slices.Clone(snap.Services)
	for i, svc := range services {
		if m := q.inmates[nameOf(svc)]; m != nil && m.kind != asBefore {
			services[i] = rules.WithoutEndpoints(svc)
		}
	}
	return compose(snap, services)
}

// publish lets others than the loop see who is in quarantine.
func (q *quarantine) publish() {
	list := make([]Quarantined, 0, len(q.inmates))
	for _, m := range q.inmates {
		list = append(list, Quarantined{
			Family: q.family, Namespace: m.now.Namespace, Name: m.now.Name,
			Port: m.now.PortIn(m.cause.Text), Line: m.cause.Text, Reason: m.cause.Stderr,
			InForce: m.kind.String(), Since: m.since, Next: m.due(),
		})
	}
	slices.SortFunc(list, func(a, b Quarantined) int {
		return compareNames(serviceName{a.Namespace, a.Name}, serviceName{b.Namespace, b.Name})
	})
	q.list.Store(&list)
}

// Quarantined lists the Services that the kernel refuses, by family and name, as
// of the last sync. It may be called at any time.
func (p *Proxy) Quarantined() []Quarantined {
	var out []Quarantined
	for _, f := range p.families {
		if list := f.quarantine.list.Load(); list != nil {
			out = append(out, *list...)
		}
	}
	return out
}

// nextTry fires when something that the kernel refused, or that could not be got ready,
// is to be tried again; nil: there is no such thing.
func (p *Proxy) nextTry() <-chan time.Time {
	var first time.Time
	for _, f := range p.families {
		for _, t := range []time.Time{f.quarantine.next(), f.features.next(), f.readiness.next()} {
			if !t.IsZero() && (first.IsZero() || t.Before(first)) {
				first = t
			}
		}
	}
	if first.IsZero() {
		return nil
	}
	return time.After(time.Until(first))
}
