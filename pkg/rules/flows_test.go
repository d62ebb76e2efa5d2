package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// dnsService is a Service that is reachable in every way, over UDP.
func dnsService(f Family, eps ...int) *Service {
	s := clusterService(f, "dns", 1, eps...)
	s.Ports[0].Protocol, s.Ports[0].Port, s.Ports[0].NodePort = UDP, 53, 30053
	s.ExternalIPs, s.LoadBalancerIPs = []netip.Addr{externalAddr(f, 1)}, []netip.Addr{externalAddr(f, 2)}
	return s
}

// flowTo is a flow that pod n answers; 0: it was never rewritten.
func flowTo(dst netip.Addr, port uint16, n int) Flow {
	f := Flow{Protocol: UDP, Dst: netip.AddrPortFrom(dst, port)}
	if f.From = f.Dst; n != 0 {
		f.From = netip.AddrPortFrom(podAddr(FamilyOf(dst), n), 8080)
	}
	node := FamilyOf(dst)
	f.Local = dst == nodeAddr(node, 0) || loopback(node).Contains(dst)
	return f
}

// everyway is a flow to each address and port of dnsService.
func everyway(f Family, n int) []Flow {
	return []Flow{
		flowTo(vipAddr(f, 1), 53, n), flowTo(externalAddr(f, 1), 53, n), flowTo(externalAddr(f, 2), 53, n),
		flowTo(nodeAddr(f, 0), 30053, n),
	}
}

// check cleans up after a sync and compares what is stale.
func (t *FlowTracker) check(tt *testing.T, snap *Snapshot, what string, want bool, flows ...Flow) {
	tt.Helper()
	t.Synced(snap)
	stale := t.Stale()
	for _, f := range flows {
		if got := stale != nil && stale.Has(f); got != want {
			tt.Errorf("%s: %s to %s, answered by %s: stale %v, want %v", what, f.Protocol, f.Dst, f.From, got, want)
		}
	}
}

func TestStaleFlows(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		one := snapshot(dnsService(f, 1))
		for what, c := range map[string]struct {
			before, now *Snapshot // before nil: the start
			flows       []Flow
			want        bool
		}{
			"a restart keeps what is in order": {nil, one, everyway(f, 1), false},
			"gone while nobody ran":            {nil, one, everyway(f, 2), true},
			"another endpoint":                 {one, snapshot(dnsService(f, 2)), everyway(f, 1), true},
			"one more endpoint":                {one, snapshot(dnsService(f, 1, 2)), everyway(f, 1), false},
			"begun without endpoints":          {snapshot(dnsService(f)), one, everyway(f, 0), true},
			"begun before its rules":           {snapshot(), one, everyway(f, 0), true},
			"without endpoints still":          {one, snapshot(dnsService(f)), everyway(f, 0), false},
			"the last endpoint went":           {one, snapshot(dnsService(f)), everyway(f, 1), true},
			"the Service is deleted":           {one, snapshot(), everyway(f, 1), true},
			"whose address it is now":          {one, snapshot(), everyway(f, 0), false},
			"over TCP now":                     {one, snapshot(clusterService(f, "dns", 1, 1)), everyway(f, 1), true},
			"a node port of the other family":  {one, snapshot(dnsService(10-f, 1)), everyway(f, 1)[3:], true},
			"never a node port of the family":  {nil, snapshot(dnsService(10-f, 1)), everyway(f, 0)[3:], false},
			"somebody else's":                  {one, snapshot(dnsService(f, 2)), elsewhere(f), false},
		} {
			tracker := NewFlowTracker(testConfig(f))
			if c.before != nil {
				tracker.Synced(c.before)
				tracker.Cleaned()
			}
			tracker.check(t, c.now, what, c.want, c.flows...)
		}
	})
}

// elsewhere is flows that have nothing to do with dnsService.
func elsewhere(f Family) []Flow {
	tcp := flowTo(vipAddr(f, 1), 53, 1)
	tcp.Protocol = TCP
	sctp := tcp
	sctp.Protocol = SCTP
	notHere := flowTo(outsideAddr(f), 30053, 1)
	return []Flow{
		tcp, sctp, notHere, flowTo(vipAddr(f, 1), 54, 1), flowTo(vipAddr(f, 2), 53, 1), flowTo(nodeAddr(f, 0), 53, 1),
		flowTo(podAddr(f, 1), 8080, 0), flowTo(outsideAddr(f), 53, 0),
	}
}

// A change of a port, of an address or of what endpoints say of themselves.
func TestStaleFlowsOfAChangedService(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		vip, node := flowTo(vipAddr(f, 1), 53, 1), flowTo(nodeAddr(f, 0), 30053, 1)
		for what, c := range map[string]struct {
			change func(*Service, *ServicePort)
			flow   Flow
			want   bool
		}{
			"target port":   {func(_ *Service, p *ServicePort) { p.Endpoints[0].Addr = netip.AddrPortFrom(podAddr(f, 1), 8081) }, vip, true},
			"port":          {func(_ *Service, p *ServicePort) { p.Port = 54 }, vip, true},
			"node port":     {func(_ *Service, p *ServicePort) { p.NodePort = 30054 }, node, true},
			"no node port":  {func(_ *Service, p *ServicePort) { p.NodePort = 0 }, node, true},
			"other vip":     {func(s *Service, _ *ServicePort) { s.ClusterIPs[0] = vipAddr(f, 2) }, vip, true},
			"vip taken":     {func(_ *Service, p *ServicePort) { p.Taken = []Claim{{ClusterIP, vipAddr(f, 1)}} }, vip, true},
			"protocol":      {func(_ *Service, p *ServicePort) { p.Protocol = SCTP }, vip, true},
			"not serving":   {func(_ *Service, p *ServicePort) { p.Endpoints[0].Ready, p.Endpoints[0].Serving = false, false }, vip, true},
			"terminating":   {func(_ *Service, p *ServicePort) { p.Endpoints[0].Ready, p.Endpoints[0].Terminating = false, true }, vip, false},
			"local only":    {func(s *Service, _ *ServicePort) { s.InternalTrafficLocal = true }, vip, false},
			"an address":    {func(s *Service, _ *ServicePort) { s.ExternalIPs = nil }, flowTo(externalAddr(f, 1), 53, 1), true},
			"ready, though": {func(_ *Service, p *ServicePort) { p.Endpoints[0].Serving = false }, vip, false},
		} {
			tracker, svc := NewFlowTracker(testConfig(f)), dnsService(f, 1, 2)
			tracker.Synced(snapshot(dnsService(f, 1, 2)))
			tracker.Cleaned()
			c.change(svc, &svc.Ports[0])
			tracker.check(t, snapshot(svc), what, c.want, c.flow)
		}
	})
}

// What listens on the node beside its node ports keeps its flows.
func TestFlowsToAddressesWithoutNodePorts(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		lo := flowTo(localhost(f), 30053, 0)
		cfg := testConfig(f)
		NewFlowTracker(cfg).check(t, snapshot(dnsService(f, 1)), "localhost", f == IPv4, lo)
		cfg.NodePorts.Localhost = false
		NewFlowTracker(cfg).check(t, snapshot(dnsService(f, 1)), "localhost closed", false, lo)
		cfg.NodePorts = NodePortAddresses{Primary: true}
		snap := snapshot(dnsService(f, 1))
		snap.Node.Primary = []netip.Addr{nodeAddr(f, 0)}
		NewFlowTracker(cfg).check(t, snap, "primary", true, flowTo(nodeAddr(f, 0), 30053, 0))
		snap.Node.Primary = []netip.Addr{nodeAddr(f, 0).Next()}
		NewFlowTracker(cfg).check(t, snap, "another primary", false, flowTo(nodeAddr(f, 0), 30053, 0))
	})
}

// At the start the service network tells what may have been a Service.
func TestServicesDeletedWhileNobodyRan(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		snap := snapshot()
		snap.ServiceCIDRs = []netip.Prefix{only(vipAddr(f, 1))}
		tracker := NewFlowTracker(testConfig(f))
		tracker.check(t, snap, "start", true, flowTo(vipAddr(f, 1), 53, 1))
		tcp := flowTo(vipAddr(f, 1), 53, 1)
		tcp.Protocol = TCP
		tracker.check(t, snap, "start", false, flowTo(vipAddr(f, 1), 53, 0), flowTo(vipAddr(f, 2), 53, 1), tcp)
		tracker.Cleaned()
		now := snapshot(dnsService(f, 1))
		now.ServiceCIDRs = snap.ServiceCIDRs
		tracker.check(t, now, "another proxy's", false, flowTo(vipAddr(f, 1), 99, 1))
	})
}

func TestWhatIsGoneIsRememberedUntilItIsCleanedUp(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		tracker, old := NewFlowTracker(testConfig(f)), everyway(f, 1)
		tracker.Synced(snapshot())
		tracker.Cleaned()
		tracker.Synced(snapshot(dnsService(f, 1)))
		tracker.check(t, snapshot(), "deleted", true, old...)
		tracker.check(t, snapshot(clusterService(f, "other", 7, 1)), "still there", true, old...)
		tracker.check(t, snapshot(dnsService(f, 1)), "back again", false, old...)
		tracker.check(t, snapshot(dnsService(f, 2)), "back, with another endpoint", true, old...)
		tracker.Synced(snapshot())
		tracker.Cleaned()
		other := dnsNamed(f, "other", 3)
		other.ClusterIPs, other.ExternalIPs, other.LoadBalancerIPs, other.Ports[0].NodePort = []netip.Addr{vipAddr(f, 7)}, nil, nil, 0
		tracker.check(t, snapshot(other), "cleaned", false, old...)
	})
}

// A walk through the kernel's table for each protocol is what a clean-up costs.
func TestProtocolsAreThoseOfServices(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		sctp := dnsNamed(f, "sctp", 1)
		sctp.Ports[0].Protocol = SCTP
		network, foreign := snapshot(), snapshot()
		network.ServiceCIDRs, foreign.ServiceCIDRs = []netip.Prefix{only(vipAddr(f, 1))}, []netip.Prefix{only(vipAddr(10-f, 1))}
		both := []Protocol{UDP, SCTP}
		for what, c := range map[string]struct {
			snaps []*Snapshot
			want  []Protocol
		}{
			"TCP":                 {[]*Snapshot{snapshot(clusterService(f, "web", 1, 1))}, nil},
			"UDP":                 {[]*Snapshot{snapshot(dnsService(f, 1))}, both[:1]},
			"both":                {[]*Snapshot{snapshot(dnsService(f, 1), sctp)}, both},
			"both, one gone":      {[]*Snapshot{snapshot(dnsService(f, 1), sctp), snapshot(dnsService(f, 1))}, both},
			"unknown, gone maybe": {[]*Snapshot{network}, both},
			"the other family":    {[]*Snapshot{foreign}, nil},
		} {
			tracker := NewFlowTracker(testConfig(f))
			for _, snap := range c.snaps {
				tracker.Synced(snap)
			}
			if got := tracker.Stale().Protocols(); !slices.Equal(got, c.want) {
				t.Errorf("%s: %v, want %v", what, got, c.want)
			}
		}
	})
}

// Without a change of what is served over UDP or SCTP there is nothing to do.
func TestOnlyChangesOfUDPAndSCTPAreWork(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		dns, web := dnsService(f, 1), clusterService(f, "web", 2, 1)
		tracker := NewFlowTracker(testConfig(f))
		work := func(what string, want bool, svcs ...*Service) {
			t.Helper()
			tracker.Synced(snapshot(svcs...))
			if got := tracker.Stale() != nil; got != want {
				t.Errorf("%s: work %v, want %v", what, got, want)
			}
			tracker.Cleaned()
		}
		work("start", true, dns, web)
		work("nothing", false, dns, web)
		work("TCP changed", false, dns, clusterService(f, "web", 2, 1, 2))
		work("TCP came and went", false, clusterService(f, "api", 3, 1), dns)
		work("the other family", false, clusterService(f, "api", 3, 1), dns, dnsNamed(10-f, "v", 1))
		work("UDP changed", true, dnsService(f, 1))
		work("UDP came", true, dnsService(f, 1), dnsNamed(f, "zone", 1))
		work("UDP went", true, dns)
		tracker.Repaired()
		work("nothing, but rules had been missing", true, dns)
		work("nothing after that", false, dns)
	})
}

// A connection over TCP is stale if it began while rules were missing that would have
// rewritten it, and its client is still trying.
func TestStaleConnectionsOfTCP(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		web, empty := clusterService(f, "web", 1, 1), clusterService(f, "empty", 2)
		to := func(service, pod int, answered bool) Flow {
			fl := flowTo(vipAddr(f, service), 80, pod)
			fl.Protocol, fl.Answered = TCP, answered
			return fl
		}
		tracker := NewFlowTracker(testConfig(f))
		check := func(what string, fl Flow, want bool) {
			t.Helper()
			stale := tracker.Stale()
			if got := stale != nil && slices.Contains(stale.Protocols(), TCP) && stale.Has(fl); got != want {
				t.Errorf("%s: stale %v, want %v", what, got, want)
			}
		}
		tracker.Synced(snapshot(web, empty))
		check("nothing was missing", to(1, 0, false), false)
		tracker.Repaired()
		check("still trying", to(1, 0, false), true)
		check("answered by the address itself", to(1, 0, true), false)
		check("rewritten", to(1, 1, false), false)
		check("rewritten to what is no endpoint, and established", to(1, 2, true), false)
		check("to what is refused", to(2, 0, false), false)
		check("to nobody's address", to(3, 0, false), false)
		tracker.Cleaned()
		tracker.Synced(snapshot(web))
		check("cleaned", to(1, 0, false), false)
	})
}

func dnsNamed(f Family, name string, eps ...int) *Service {
	s := dnsService(f, eps...)
	s.Name = name
	return s
}

// The flows that the rules make are in order until a change, and afterwards they
// are if the rules still make them; one that leads to who is no endpoint any more
// is not.
func TestFlowsAreStaleExactlyWhenTheRulesSayOtherwise(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		property := func(t *rapid.T) {
			cfg, before, now := drawConfig(t, f), drawCluster(t, f), drawCluster(t, f)
			now.Node = before.Node
			flows := drawFlows(t, cfg, before, now)
			tracker := NewFlowTracker(cfg)
			tracker.Synced(before)
			start := tracker.Stale()
			tracker.Cleaned()
			tracker.Synced(now)
			change := tracker.Stale()
			for _, d := range flows {
				if start.Has(d.Flow) {
					t.Fatalf("stale, and the rules made it: %+v", d)
				}
				if got := change != nil && change.Has(d.Flow); d.again && got || d.lost && !got {
					t.Fatalf("stale %v after the change: %+v\nnow %+v", got, d, d.now)
				}
			}
		}
		for range sets {
			rapid.Check(t, property)
		}
	})
}

// drawn is a flow that the rules made before a change.
type drawn struct {
	Flow
	again bool // the rules of now make it too
	lost  bool // it was rewritten, to what is nobody's endpoint now
	now   []Fate
}

// drawFlows sends packets through the rules of before and of now.
func drawFlows(t *rapid.T, cfg Config, before, now *Snapshot) []drawn {
	then, err := ParseSave(RenderPlan(NewPlan(&Ruleset{}, Build(before, cfg), 0)), cfg.Family)
	if err != nil {
		t.Fatal(err)
	}
	after, err := ParseSave(RenderPlan(NewPlan(&Ruleset{}, Build(now, cfg), 0)), cfg.Family)
	if err != nil {
		t.Fatal(err)
	}
	host := Host{Addresses: before.Node.Addresses}
	var out []drawn
	for range 10 {
		p := drawPacket(t, cfg.Family, before)
		local := func(a netip.Addr) bool { return slices.Contains(host.Addresses, a) || loopback(cfg.Family).Contains(a) }
		if p.Protocol == TCP || p.FromNode && !local(p.Src.Addr()) {
			continue
		}
		was, err1 := Walk(then, host, p)
		is, err2 := Walk(after, host, p)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		for _, fate := range was {
			if fate.Verdict != Accept {
				continue
			}
			d := drawn{Flow: Flow{Protocol: p.Protocol, Dst: p.Dst, From: fate.Dst, Local: local(p.Dst.Addr())}, now: is}
			d.again = slices.ContainsFunc(is, func(n Fate) bool { return n.Verdict == Accept && n.Dst == d.From })
			d.lost = d.From != d.Dst && !hasEndpoint(now, d.From)
			out = append(out, d)
		}
	}
	return out
}

// hasEndpoint reports whether an address is an endpoint of any Service that answers.
func hasEndpoint(snap *Snapshot, at netip.AddrPort) bool {
	for _, s := range snap.Services {
		for _, p := range s.Ports {
			for _, e := range p.Endpoints {
				if e.Addr == at && (e.Ready || e.Serving) {
					return true
				}
			}
		}
	}
	return false
}

// BenchmarkFlowTracker is one changed Service among 30,000 over TCP.
func BenchmarkFlowTracker(b *testing.B) {
	snap := snapshot()
	for i := range 30000 {
		snap.Services = append(snap.Services, clusterService(IPv4, fmt.Sprintf("s%05d", i), i, 1))
	}
	tracker := NewFlowTracker(testConfig(IPv4))
	tracker.Synced(snap)
	tracker.Cleaned()
	for b.Loop() {
		next := &Snapshot{Node: snap.Node, Services: slices.Clone(snap.Services)}
		next.Services[15000] = clusterService(IPv4, "s15000", 15000, 2)
		tracker.Synced(next)
		if tracker.Stale() != nil {
			b.Fatal("work")
		}
	}
}
