package rules

import (
	"net/netip"
	"slices"
)

// Flow is an entry of conntrack: what a client sends to and who answers. The
// kernel sends all packets of a flow where its first one went, whatever the rules
// say by now.
type Flow struct {
	Protocol Protocol
	Dst      netip.AddrPort // as the client sees it, before DNAT
	From     netip.AddrPort // the source of replies; Dst itself: there was no DNAT
	Local    bool           // Dst is an address of this node
	Answered bool           // From has sent something
}

// outlives reports whether flows of a protocol need cleaning up. A client of TCP
// is told that its peer is gone and connects anew, from another port; one of UDP
// goes on sending to nobody, and each packet keeps the flow alive (kubernetes#19029).
func outlives(p Protocol) bool { return p == UDP || p == SCTP }

// every is all protocols, which count after rules had been missing. A connection of TCP that began
// meanwhile was not rewritten, and neither are the packets by which its client tries
// on, for a minute or two, until conntrack knows nothing of it.
func every(Protocol) bool { return true }

// frontend is where clients find a service port. One without an address is a
// node port.
type frontend struct {
	protocol Protocol
	at       netip.AddrPort
}

func nodePortFrontend(p Protocol, port uint16) frontend {
	return frontend{p, netip.AddrPortFrom(netip.Addr{}, port)}
}

// frontends visits where clients find the Service in cfg's family, for those
// protocols. Without a cluster IP of the family that is nowhere, as in its rules.
func (s *Service) frontends(cfg *Config, over func(Protocol) bool, visit func(frontend, *ServicePort)) {
	f := cfg.Family
	if !s.in(f) {
		return
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		if !over(p.Protocol) {
			continue
		}
		for _, a := range slices.Concat(p.serves(f, ClusterIP, s.ClusterIPs),
			p.serves(f, ExternalIP, cfg.externalIPs(s)), p.serves(f, LoadBalancerIP, s.LoadBalancerIPs)) {
			visit(frontend{p.Protocol, netip.AddrPortFrom(a, p.Port)}, p)
		}
		if p.NodePort != 0 {
			visit(nodePortFrontend(p.Protocol, p.NodePort), p)
		}
	}
}

// Frontends says who may answer the flows to the Services of one snapshot, in
// one family.
type Frontends struct {
	answers   map[frontend]*answers
	nodePorts []netip.Prefix // the addresses with node ports
	closed    netip.Prefix   // those of them that have none all the same; invalid: none
}

// NewFrontends returns the frontends of a snapshot, of protocols whose flows need
// cleaning up.
func NewFrontends(snap *Snapshot, cfg Config) *Frontends { return newFrontends(snap, cfg, outlives) }

func newFrontends(snap *Snapshot, cfg Config, over func(Protocol) bool) *Frontends {
	x := &Frontends{answers: map[frontend]*answers{}, nodePorts: nodePortRanges(&cfg, &snap.Node)}
	if !cfg.OnLocalhost() {
		x.closed = loopback(cfg.Family)
	}
	for _, svc := range snap.Services {
		var of *ServicePort
		var by *answers
		svc.frontends(&cfg, over, func(at frontend, p *ServicePort) {
			if p != of {
				of, by = p, newAnswers(p)
			}
			x.answers[at] = by
		})
	}
	return x
}

// answers says who may answer the flows of a service port.
type answers struct {
	endpoints map[netip.AddrPort]bool
	rewrites  bool // new flows are sent to an endpoint; else they are refused, or stay as they are
}

// newAnswers takes all endpoints that answer: one that gets no new flows still
// serves those it has.
func newAnswers(p *ServicePort) *answers {
	out := &answers{endpoints: make(map[netip.AddrPort]bool, len(p.Endpoints))}
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		if e.Ready || e.Serving {
			out.endpoints[e.Addr] = true
		}
		out.rewrites = out.rewrites || e.Ready || e.draining()
	}
	return out
}

// Serves reports whether the flow goes from a frontend to one of its endpoints.
func (x *Frontends) Serves(f Flow) bool {
	by, ok := frontendOf(x, x.answers, f)
	return ok && by.endpoints[f.From]
}

// frontendOf returns what a table has for the frontend that a flow is to. As in
// the rules, an address of a Service comes before a node port.
func frontendOf[V any](x *Frontends, table map[frontend]V, f Flow) (v V, ok bool) {
	if v, ok = table[frontend{f.Protocol, f.Dst}]; ok || !f.Local {
		return v, ok
	}
	a := f.Dst.Addr()
	if x.closed.Contains(a) || !slices.ContainsFunc(x.nodePorts, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return v, false
	}
	v, ok = table[nodePortFrontend(f.Protocol, f.Dst.Port())]
	return v, ok
}

// FlowTracker knows which flows of one family may have become stale since they
// were last cleaned up.
type FlowTracker struct {
	cfg     Config
	snap    *Snapshot         // of the last sync; nil: none yet
	due     bool              // something has changed, or was missing, since the last clean-up
	missed  bool              // it was missing
	cleaned bool              // there was a clean-up
	gone    map[frontend]bool // of the snapshots since the last clean-up; some may be there again
}

// NewFlowTracker returns a FlowTracker that knows of no sync.
func NewFlowTracker(cfg Config) *FlowTracker {
	return &FlowTracker{cfg: cfg, gone: map[frontend]bool{}}
}

// Synced notes that the rules for a snapshot are in force.
func (t *FlowTracker) Synced(snap *Snapshot) {
	if t.snap == nil {
		t.snap, t.due = snap, true
		return
	}
	was, is := changed(t.snap.Services, snap.Services)
	for _, svc := range was {
		svc.frontends(&t.cfg, outlives, func(at frontend, _ *ServicePort) { t.due, t.gone[at] = true, true })
	}
	for _, svc := range is {
		svc.frontends(&t.cfg, outlives, func(frontend, *ServicePort) { t.due = true })
	}
	t.snap = snap
}

// Repaired notes that some of those rules had been missing: flows may have begun
// meanwhile that nobody rewrote.
func (t *FlowTracker) Repaired() { t.due, t.missed = true, true }

// changed returns the Services that only one of two snapshots has, or has so.
func changed(old, now []*Service) (was, is []*Service) {
	eachChange(old, now,
		func(i int) { was = append(was, old[i]) },
		func(i int) { is = append(is, now[i]) },
		func(int) {})
	return was, is
}

// Stale returns what to clean up; nil if nothing has changed since the last
// clean-up.
func (t *FlowTracker) Stale() *StaleFlows {
	if !t.due {
		return nil
	}
	over := outlives
	if t.missed {
		over = every
	}
	s := &StaleFlows{now: newFrontends(t.snap, t.cfg, over), gone: t.gone}
	if !t.cleaned {
		for _, p := range t.snap.ServiceCIDRs {
			if FamilyOf(p.Addr()) == t.cfg.Family {
				s.network = append(s.network, p)
			}
		}
	}
	return s
}

// Cleaned notes that the stale flows were removed. Until then what is gone is
// not forgotten.
func (t *FlowTracker) Cleaned() {
	t.due, t.missed, t.cleaned, t.gone = false, false, true, map[frontend]bool{}
}

// StaleFlows tells the flows that must go from all others: those that are in
// order, and those that are somebody else's.
type StaleFlows struct {
	now  *Frontends
	gone map[frontend]bool

	// network is where Services may have gone from before the start. It counts
	// only once: later it is known what goes, and a flow that another proxy
	// rewrote for a Service of its own stays.
	network []netip.Prefix
}

// Protocols lists those whose flows may be stale: each costs a walk through the
// kernel's table.
func (s *StaleFlows) Protocols() []Protocol {
	uses := map[Protocol]bool{}
	for at := range s.now.answers {
		uses[at.protocol] = true
	}
	for at := range s.gone {
		uses[at.protocol] = true
	}
	var out []Protocol
	for _, p := range []Protocol{UDP, SCTP, TCP} {
		if uses[p] || outlives(p) && len(s.network) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// Has reports whether the flow is stale. At a frontend of now it is if it was
// rewritten to what is no endpoint that answers, or was not and would be now: it
// began when there were no endpoints, or no rules (kubernetes#139628). At what was
// a frontend once it is if it was rewritten: whoever has the address now has no
// part in that. One over TCP is only after rules had been missing, and only if it
// began then and nobody has answered: its client's next try is to be rewritten.
func (s *StaleFlows) Has(f Flow) bool {
	untouched := f.From == f.Dst
	if !outlives(f.Protocol) {
		by, ok := frontendOf(s.now, s.now.answers, f)
		return ok && by.rewrites && untouched && !f.Answered
	}
	if by, ok := frontendOf(s.now, s.now.answers, f); ok {
		return !by.endpoints[f.From] && (!untouched || by.rewrites)
	}
	if untouched {
		return false
	}
	if _, ok := frontendOf(s.now, s.gone, f); ok {
		return true
	}
	return slices.ContainsFunc(s.network, func(p netip.Prefix) bool { return p.Contains(f.Dst.Addr()) })
}
