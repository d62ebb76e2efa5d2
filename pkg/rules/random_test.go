package rules

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// sets is how many times rapid draws its hundred clusters for a property.
const sets = 10

// The node of random clusters, and who else there is.
func nodeAddr(f Family, n int) netip.Addr {
	if f == IPv6 {
		return netip.MustParseAddr("fd00:250::").Next()
	}
	return netip.AddrFrom4([4]byte{10, 250, byte(n), 2})
}

func localhost(f Family) netip.Addr {
	if f == IPv6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

func externalAddr(f Family, n int) netip.Addr {
	if f == IPv6 {
		a := netip.MustParseAddr("2001:db8:5::").As16()
		a[15] = byte(n + 1)
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{198, 51, 100, byte(n + 1)})
}

// drawCluster is a random snapshot of every kind of Service. Addresses and node
// ports are each of one Service, and so are endpoints, so that a packet that
// ends up with another Service's is noticed.
func drawCluster(t *rapid.T, f Family) *Snapshot {
	zone := rapid.SampledFrom([]string{"", "a", "b"})
	snap := &Snapshot{Node: Node{
		Name: "here", Zone: zone.Draw(t, "zone"),
		Addresses: []netip.Addr{nodeAddr(f, 0)}, Primary: []netip.Addr{nodeAddr(f, 0)}, PodCIDRs: []netip.Prefix{podCIDR(f)},
	}}
	if rapid.Bool().Draw(t, "service network known") {
		bits := 16
		if f == IPv6 {
			bits = 64
		}
		snap.ServiceCIDRs = []netip.Prefix{netip.PrefixFrom(vipAddr(f, 1), bits).Masked()}
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "services") {
		snap.Services = append(snap.Services, drawService(t, f, i))
	}
	return snap
}

func drawService(t *rapid.T, f Family, i int) *Service {
	yes := rapid.Bool()
	s := &Service{
		Namespace: "ns", Name: string(rune('a' + i)), ClusterIPs: []netip.Addr{vipAddr(f, i+1)},
		ExternalTrafficLocal: yes.Draw(t, "external Local"),
		InternalTrafficLocal: yes.Draw(t, "internal Local"),
	}
	for n := range rapid.IntRange(0, 2).Draw(t, "external IPs") {
		s.ExternalIPs = append(s.ExternalIPs, externalAddr(f, 10*i+n))
	}
	for n := range rapid.IntRange(0, 2).Draw(t, "load balancer IPs") {
		s.LoadBalancerIPs = append(s.LoadBalancerIPs, externalAddr(f, 10*i+5+n))
	}
	if s.RestrictSources = yes.Draw(t, "restricted"); s.RestrictSources {
		s.SourceRanges = rapid.SliceOfDistinct(rapid.SampledFrom(sourceRanges(f)), rapid.ID[netip.Prefix]).Draw(t, "ranges")
	}
	if yes.Draw(t, "affinity") {
		s.AffinitySeconds = 600
	}
	for n := range rapid.IntRange(1, 3).Draw(t, "ports") {
		s.Ports = append(s.Ports, drawPort(t, f, s, 10*i+n))
	}
	return s
}

// sourceRanges holds ranges of both families: those of the other one, the
// node's, the outsider's, everything.
func sourceRanges(f Family) []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("10.250.0.0/16"), netip.MustParsePrefix("fd00:250::/64"),
		netip.PrefixFrom(outsideAddr(f), outsideAddr(f).BitLen()-4).Masked(),
		netip.MustParsePrefix("192.168.0.0/24"), netip.MustParsePrefix("fd00:192::/48"),
		netip.MustParsePrefix("0.0.0.0/0"),
	}
}

func drawPort(t *rapid.T, f Family, s *Service, n int) ServicePort {
	p := ServicePort{
		Name: string(rune('p' + n%10)), Port: uint16(80 + n%10),
		Protocol: rapid.SampledFrom([]Protocol{TCP, UDP, SCTP}).Draw(t, "protocol"),
	}
	if rapid.Bool().Draw(t, "node port") {
		p.NodePort = uint16(30000 + n)
	}
	for _, k := range rapid.SliceOfNDistinct(rapid.IntRange(0, 20), 0, 6, rapid.ID[int]).Draw(t, "endpoints") {
		p.Endpoints = append(p.Endpoints, drawEndpoint(t, netip.AddrPortFrom(podAddr(f, 30*n+k+1), 8080)))
	}
	slices.SortFunc(p.Endpoints, func(a, b Endpoint) int { return strings.Compare(a.Addr.String(), b.Addr.String()) })
	all := map[AddressRole][]netip.Addr{ClusterIP: s.ClusterIPs, LoadBalancerIP: s.LoadBalancerIPs, ExternalIP: s.ExternalIPs}
	if rapid.IntRange(0, 9).Draw(t, "taken") == 0 {
		role := rapid.SampledFrom([]AddressRole{ClusterIP, LoadBalancerIP, ExternalIP}).Draw(t, "role")
		for _, a := range all[role] {
			p.Taken = append(p.Taken, Claim{role, a})
		}
	}
	return p
}

func drawEndpoint(t *rapid.T, addr netip.AddrPort) Endpoint {
	yes := rapid.Bool()
	e := Endpoint{
		Addr: addr, NodeName: rapid.SampledFrom([]string{"here", "other", ""}).Draw(t, "node"),
		Ready: rapid.IntRange(0, 3).Draw(t, "ready") > 0, Serving: yes.Draw(t, "serving"), Terminating: yes.Draw(t, "terminating"),
	}
	hint := rapid.SampledFrom([][]string{nil, {"a"}, {"a", "b"}, {"b"}, {"a"}, {"a"}})
	e.ZoneHints = hint.Draw(t, "zone hints")
	if rapid.IntRange(0, 3).Draw(t, "node hints") == 0 {
		e.NodeHints = rapid.SampledFrom([][]string{{"here"}, {"other"}, {"here", "other"}}).Draw(t, "for nodes")
	}
	return e
}

// drawConfig is a random configuration.
func drawConfig(t *rapid.T, f Family) Config {
	cfg := testConfig(f)
	cfg.MasqueradeAll = rapid.Bool().Draw(t, "masquerade all")
	cfg.leaf = rapid.SampledFrom([]int{0, 1, 2, 3}).Draw(t, "rules in a leaf")
	cfg.large = rapid.SampledFrom([]int{0, 1, 5}).Draw(t, "endpoints of a large cluster")
	cfg.RejectWithoutLocal = rapid.Bool().Draw(t, "reject without local")
	cfg.NodePorts.Localhost = rapid.Bool().Draw(t, "localhost node ports")
	cfg.PodTraffic = rapid.SampledFrom([]PodTraffic{
		{}, {CIDR: f.All()}, {CIDR: podCIDR(f)}, {NodeCIDR: true}, {Interface: "cni0"}, {Interface: "cn+"},
	}).Draw(t, "pods are told by")
	switch rapid.IntRange(0, 3).Draw(t, "node port addresses") {
	case 0:
		cfg.NodePorts.Ranges, cfg.NodePorts.Primary = nil, true
	case 1:
		a := nodeAddr(f, 0)
		cfg.NodePorts.Ranges = []netip.Prefix{netip.PrefixFrom(a, a.BitLen()-8).Masked()}
	}
	return cfg
}

// drawPacket is a packet that has to do with the cluster: to one of its addresses
// or one next to it, from any kind of place.
func drawPacket(t *rapid.T, f Family, snap *Snapshot) Packet {
	p := Packet{In: "eth0", Protocol: rapid.SampledFrom([]Protocol{TCP, UDP, SCTP}).Draw(t, "packet's protocol")}
	local := []netip.Addr{nodeAddr(f, 0), localhost(f)}
	dst := append(slices.Clone(local), outsideAddr(f), vipAddr(f, 9), nodeAddr(f, 0).Next())
	ports := []uint16{80, 81, 82, 8080}
	sources := []netip.Addr{outsideAddr(f), podAddr(f, 999), nodeAddr(f, 0)}
	for _, s := range snap.Services {
		dst = slices.Concat(dst, s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs)
		sources = append(sources, s.LoadBalancerIPs...)
		for i := range s.Ports {
			ports = append(ports, cmp.Or(s.Ports[i].NodePort, 81), s.Ports[i].Port)
			for _, e := range s.Ports[i].Endpoints {
				sources = append(sources, e.Addr.Addr())
			}
		}
	}
	p.Dst = netip.AddrPortFrom(rapid.SampledFrom(dst).Draw(t, "to"), rapid.SampledFrom(ports).Draw(t, "port"))
	src := rapid.SampledFrom(sources).Draw(t, "from")
	if p.FromNode = slices.Contains(local, src) || slices.Contains(externals(snap), src); p.FromNode {
		p.In = ""
		if p.Dst.Addr().IsLoopback() {
			src = local[1]
		}
	} else if podCIDR(f).Contains(src) {
		p.In = "cni0"
	}
	p.Src = netip.AddrPortFrom(src, 40000)
	return p
}

func externals(snap *Snapshot) []netip.Addr {
	var out []netip.Addr
	for _, s := range snap.Services {
		out = append(out, s.LoadBalancerIPs...)
	}
	return out
}
