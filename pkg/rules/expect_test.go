package rules

import (
	"net/netip"
	"slices"
)

// expectation says what should become of a packet, from what Services mean and
// not from any chain: it is what the rules are held against.
type expectation struct {
	snap *Snapshot
	cfg  Config
	pkt  Packet
}

func (x *expectation) isLocal(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(x.snap.Node.Addresses, a)
}

func (x *expectation) fates() []Fate {
	for _, s := range x.snap.Services {
		for i := range s.Ports {
			p := &s.Ports[i]
			if p.Protocol != x.pkt.Protocol || p.Port != x.pkt.Dst.Port() {
				continue
			}
			for _, of := range []struct {
				role  AddressRole
				addrs []netip.Addr
			}{{ClusterIP, s.ClusterIPs}, {LoadBalancerIP, s.LoadBalancerIPs}, {ExternalIP, s.ExternalIPs}} {
				if slices.Contains(of.addrs, x.pkt.Dst.Addr()) && !slices.Contains(p.Taken, Claim{of.role, x.pkt.Dst.Addr()}) {
					return x.service(s, p, of.role)
				}
			}
		}
	}
	for _, s := range x.snap.Services {
		for i := range s.Ports {
			p := &s.Ports[i]
			if p.NodePort == x.pkt.Dst.Port() && p.Protocol == x.pkt.Protocol && x.isLocal(x.pkt.Dst.Addr()) {
				return x.nodePort(s, p)
			}
		}
	}
	return x.nobody()
}

// nobody is the fate of a packet that is for no Service.
func (x *expectation) nobody() []Fate {
	dst := x.pkt.Dst.Addr()
	switch {
	case dst.IsLoopback() && !x.pkt.Src.Addr().IsLoopback() && x.cfg.OnLocalhost():
		return x.one(Drop)
	case x.isLocal(dst):
		return x.one(Accept)
	}
	for _, c := range x.snap.ServiceCIDRs {
		if pods := x.cfg.PodTraffic.CIDR; c.Contains(dst) && !(pods.IsValid() && pods.Overlaps(c)) {
			return x.one(Reject)
		}
	}
	return x.one(Accept)
}

func (x *expectation) one(verdict string) []Fate {
	return []Fate{{Verdict: verdict, Dst: x.pkt.Dst, Probability: 1}}
}

// nodePort: kube-proxy refuses an unserved node port on all addresses, whichever
// have node ports.
func (x *expectation) nodePort(s *Service, p *ServicePort) []Fate {
	dst, open := x.pkt.Dst.Addr(), false
	for _, r := range x.cfg.NodePorts.Ranges {
		open = open || r.Contains(dst)
	}
	open = open || x.cfg.NodePorts.Primary && slices.Contains(x.snap.Node.Primary, dst)
	if dst.IsLoopback() && (x.cfg.Family == IPv6 || !x.cfg.NodePorts.Localhost) {
		open = false
	}
	all, local := x.usable(p)
	switch {
	case open:
		fates, _ := x.external(s, p)
		return fates
	case len(all) == 0:
		return x.refusedOutside(false)
	case s.ExternalTrafficLocal && len(local) == 0:
		return x.refusedOutside(true)
	}
	return x.nobody()
}

func (x *expectation) service(s *Service, p *ServicePort, role AddressRole) []Fate {
	if role == ClusterIP {
		return x.internal(s, p)
	}
	all, local := x.usable(p)
	fates, served := x.external(s, p)
	ofFamily := func(r netip.Prefix) bool { return FamilyOf(r.Addr()) == x.cfg.Family }
	switch {
	case role == LoadBalancerIP && s.RestrictSources && !slices.ContainsFunc(s.SourceRanges, ofFamily):
		return x.one(Drop)
	case role == ExternalIP || !x.restricted(s) || len(all) == 0:
		return fates
	case served && x.allowed(s, p):
		return fates
	}
	return x.refused(s.ExternalTrafficLocal && len(local) == 0 && x.cfg.RejectWithoutLocal)
}

// usable returns the endpoints for policies Cluster and Local.
func (x *expectation) usable(p *ServicePort) (cluster, local []Endpoint) {
	node := &x.snap.Node
	var ready, draining []Endpoint
	for _, e := range p.Endpoints {
		switch {
		case e.Ready:
			ready = append(ready, e)
		case e.Serving && e.Terminating:
			draining = append(draining, e)
		}
	}
	here := func(in []Endpoint) []Endpoint {
		return slices.DeleteFunc(slices.Clone(in), func(e Endpoint) bool { return e.NodeName != node.Name })
	}
	if local = here(ready); len(local) == 0 {
		local = here(draining)
	}
	if len(ready) == 0 {
		return draining, local
	}
	for _, hints := range []func(Endpoint) (has, mine bool){
		func(e Endpoint) (bool, bool) { return len(e.NodeHints) > 0, slices.Contains(e.NodeHints, node.Name) },
		func(e Endpoint) (bool, bool) { return len(e.ZoneHints) > 0, slices.Contains(e.ZoneHints, node.Zone) },
	} {
		complete := true
		var mine []Endpoint
		for _, e := range ready {
			has, my := hints(e)
			complete = complete && has
			if my {
				mine = append(mine, e)
			}
		}
		if complete && len(mine) > 0 {
			return mine, local
		}
	}
	return ready, local
}

func (x *expectation) internal(s *Service, p *ServicePort) []Fate {
	all, local := x.usable(p)
	eps := all
	if s.InternalTrafficLocal {
		eps = local
	}
	if len(eps) == 0 {
		return x.refused(len(all) == 0 || x.cfg.RejectWithoutLocal)
	}
	masquerade := x.cfg.MasqueradeAll
	if pods := x.cfg.PodTraffic.on(&x.snap.Node, x.cfg.Family); pods.known() {
		masquerade = masquerade || !x.fromPod()
	}
	return x.spread(eps, masquerade)
}

func (x *expectation) fromPod() bool {
	pods := x.cfg.PodTraffic
	switch {
	case pods.NodeCIDR:
		return podCIDR(x.cfg.Family).Contains(x.pkt.Src.Addr())
	case pods.CIDR.IsValid():
		return pods.CIDR.Contains(x.pkt.Src.Addr())
	case pods.Interface != "":
		return x.pkt.In == "cni0"
	}
	return false
}

// external is traffic that came by another address than a cluster IP. served
// says that it has an endpoint.
func (x *expectation) external(s *Service, p *ServicePort) (fates []Fate, served bool) {
	all, local := x.usable(p)
	switch fromNode := x.isLocal(x.pkt.Src.Addr()); {
	case len(all) == 0:
		return x.refusedOutside(false), false
	case !s.ExternalTrafficLocal:
		return x.spread(all, true), true
	case x.fromPod():
		return x.spread(all, false), true
	case fromNode:
		return x.spread(all, true), true
	case len(local) == 0:
		return x.refusedOutside(true), false
	}
	return x.spread(local, false), true
}

// restricted: source ranges keep somebody out.
func (x *expectation) restricted(s *Service) bool {
	everybody := func(r netip.Prefix) bool { return r.Bits() == 0 && FamilyOf(r.Addr()) == x.cfg.Family }
	return s.RestrictSources && !slices.ContainsFunc(s.SourceRanges, everybody)
}

// allowed: the source is in the ranges, or it is the node, which is in them,
// under a load balancer address that it holds itself.
func (x *expectation) allowed(s *Service, p *ServicePort) bool {
	src, node := x.pkt.Src.Addr(), false
	for _, r := range s.SourceRanges {
		if r.Contains(src) {
			return true
		}
		node = node || slices.ContainsFunc(x.snap.Node.Addresses, r.Contains)
	}
	return node && slices.Contains(p.serves(x.cfg.Family, LoadBalancerIP, s.LoadBalancerIPs), src)
}

func (x *expectation) refused(reject bool) []Fate {
	if reject {
		return x.one(Reject)
	}
	return x.one(Drop)
}

// refusedOutside is the answer to who comes from outside. The node's own packets
// to addresses elsewhere go out, as other hosts may answer there.
func (x *expectation) refusedOutside(endpointsElsewhere bool) []Fate {
	if x.pkt.FromNode && !x.isLocal(x.pkt.Dst.Addr()) {
		return x.nobody()
	}
	if fates := x.nobody(); fates[0].Verdict == Drop {
		return fates
	}
	return x.refused(!endpointsElsewhere || x.cfg.RejectWithoutLocal)
}

func (x *expectation) spread(eps []Endpoint, masquerade bool) []Fate {
	var out []Fate
	for _, e := range eps {
		out = append(out, Fate{
			Verdict: Accept, Dst: e.Addr, Probability: 1 / float64(len(eps)),
			Masqueraded: masquerade || e.Addr.Addr() == x.pkt.Src.Addr(),
		})
	}
	return out
}
