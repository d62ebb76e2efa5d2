package rules

import "net/netip"

// Config is the part of the configuration that shapes the rules of one family.
type Config struct {
	Family Family

	// PodTraffic tells traffic of this cluster's pods from all other. With none,
	// only MasqueradeAll rewrites the source of traffic to a cluster IP.
	PodTraffic PodTraffic

	MasqueradeAll  bool   // rewrite the source of all traffic to cluster IPs
	MasqueradeMark uint32 // the one mark bit that asks for a rewritten source, such as 0x4000
	DropInvalid    bool   // drop forwarded packets that conntrack calls INVALID (kubernetes#74839)

	NodePorts NodePortAddresses

	// RejectWithoutLocal answers traffic that policy Local leaves without an
	// endpoint here, instead of dropping it as kube-proxy does (kubernetes#121371).
	RejectWithoutLocal bool

	// WithoutExternalIPs serves no spec.externalIPs, which anybody who may write a
	// Service can point at an address of somebody else (CVE-2020-8554, KEP-5707).
	WithoutExternalIPs bool

	// Missing is what the kernel lacks. Rules do without it; FeatureInfo says how.
	// The zero value is a kernel that has everything.
	Missing Features

	detail detail // of the rules; see Builder.Build
	leaf   int    // see leafSize; 0: that; tests make trees of few rules
	large  int    // see largeCluster; 0: that
}

// externalIPs are those of a Service that are served.
func (c *Config) externalIPs(s *Service) []netip.Addr {
	if c.WithoutExternalIPs {
		return nil
	}
	return s.ExternalIPs
}

// NodePortAddresses says on which of the node's addresses node ports are open.
// The zero value is none.
type NodePortAddresses struct {
	Ranges  []netip.Prefix // every address of the node in one of them; one with 0 bits: all
	Primary bool           // the node's primary address of the family, if it is known

	// Localhost opens them on IPv4 loopback addresses too, as far as Ranges holds
	// these. It needs the sysctl route_localnet; the rules guard against what else
	// that lets in (CVE-2020-8558). The kernel has no such thing for IPv6.
	Localhost bool
}

// OnLocalhost reports whether node ports are open on IPv4 loopback addresses, so
// that the kernel must be told to route these.
func (c *Config) OnLocalhost() bool {
	if c.Family != IPv4 || !c.NodePorts.Localhost || c.Missing.Has(FeatureConntrack) {
		return false // without the match there is no guard against what else that lets in
	}
	for _, r := range c.NodePorts.Ranges {
		if r.Overlaps(loopback(IPv4)) {
			return true
		}
	}
	return false
}

// loopback is the range of a family's loopback addresses.
func loopback(f Family) netip.Prefix {
	if f == IPv6 {
		return netip.PrefixFrom(netip.IPv6Loopback(), 128)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
}

// PodTraffic is a match that holds for packets that come from pods; at most one
// of its fields is set. The zero value knows no pods.
type PodTraffic struct {
	CIDR      netip.Prefix // source address
	NodeCIDR  bool         // source address in the Node's own pod range, as far as it has one
	Interface string       // incoming interface; may end in +
}

// on fills in what depends on the node.
func (p PodTraffic) on(n *Node, f Family) PodTraffic {
	if !p.NodeCIDR {
		return p
	}
	return PodTraffic{CIDR: n.podCIDR(f)}
}

// known reports whether pods can be told from others at all.
func (p PodTraffic) known() bool { return p != PodTraffic{} }

// hasOutsiders reports whether some traffic is known not to come from pods. With
// a CIDR of 0 bits all traffic does.
func (p PodTraffic) hasOutsiders() bool {
	return p.known() && !(p.CIDR.IsValid() && p.CIDR.Bits() == 0)
}

// match adds the condition "comes from a pod", or its opposite, to a rule.
func (p PodTraffic) match(r Rule, fromPod bool) Rule {
	switch {
	case p.CIDR.IsValid() && p.CIDR.Bits() > 0:
		r.Src = AddrMatch{p.CIDR, !fromPod}
	case p.Interface != "":
		r = r.With(Rare{In: InterfaceMatch{p.Interface, !fromPod}})
	}
	return r
}
