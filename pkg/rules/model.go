package rules

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Family is one of the two address families. Each has tables, chains and a
// restore command of its own; everything else is shared code.
type Family uint8

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families lists both families in the order in which they are printed and written.
func Families() []Family { return []Family{IPv4, IPv6} }

// String returns "IPv4" or "IPv6", as the Service API spells them.
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// Bits is the length of an address in bits: 32 or 128.
func (f Family) Bits() int {
	if f == IPv6 {
		return 128
	}
	return 32
}

// All is the range of every address: 0.0.0.0/0 or ::/0.
func (f Family) All() netip.Prefix {
	if f == IPv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// only is the range of one address.
func only(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// FamilyOf returns the family of an address. The address must be valid and
// must not be an IPv4 address mapped into IPv6.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Protocol is a transport protocol, lower case as iptables spells it. Empty
// means any protocol.
type Protocol string

const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// Snapshot is everything that decides what the rules are. It and all it
// points to is immutable: a Service that did not change between two snapshots
// keeps its pointer, which is how later stages know it without looking inside.
type Snapshot struct {
	Node     Node
	Services []*Service // sorted by Namespace, then Name

	// ServiceCIDRs are the ranges that cluster IPs are taken from (KEP-1880),
	// sorted, both families; empty: unknown.
	ServiceCIDRs []netip.Prefix
}

// endpoints counts the endpoints of family f, each as often as it serves a port.
func (s *Snapshot) endpoints(f Family) int {
	n := 0
	for _, svc := range s.Services {
		for i := range svc.Ports {
			for j := range svc.Ports[i].Endpoints {
				if FamilyOf(svc.Ports[i].Endpoints[j].Addr.Addr()) == f {
					n++
				}
			}
		}
	}
	return n
}

// Node is the node that the rules are for.
type Node struct {
	Name      string
	Zone      string       // label topology.kubernetes.io/zone; empty: unknown, zone hints are ignored
	Addresses []netip.Addr // sorted, both families; empty: unknown

	Primary  []netip.Addr   // the address of each family that others know the node by; at most one each
	PodCIDRs []netip.Prefix // what its pods' addresses are taken from; at most one per family

	// Leaving says that the Node is deleted or about to be, so that load balancers
	// should send no new connections here (KEP-3836). No rule depends on it.
	Leaving bool
}

// asForRules returns the node without what no rule depends on.
func (n Node) asForRules() Node {
	n.Leaving = false
	return n
}

// primary returns the node's primary address of family f, if it has one.
func (n *Node) primary(f Family) (netip.Addr, bool) {
	for _, a := range n.Primary {
		if FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// addresses returns the node's addresses of family f.
func (n *Node) addresses(f Family) []netip.Addr {
	var out []netip.Addr
	for _, a := range n.Addresses {
		if FamilyOf(a) == f {
			out = append(out, a)
		}
	}
	return out
}

// podCIDR returns the node's pod range of family f; invalid if it has none.
func (n *Node) podCIDR(f Family) netip.Prefix {
	for _, p := range n.PodCIDRs {
		if FamilyOf(p.Addr()) == f {
			return p
		}
	}
	return netip.Prefix{}
}

// Service is a Service joined with its EndpointSlices, both families together.
// Headless Services and ExternalName Services never become one.
type Service struct {
	Namespace, Name string

	ClusterIPs      []netip.Addr // at most one per family, never empty
	ExternalIPs     []netip.Addr // sorted, no duplicates
	LoadBalancerIPs []netip.Addr // sorted, no duplicates; only those with ipMode VIP

	// SourceRanges says who may use LoadBalancerIPs, if RestrictSources is set.
	// A restricted Service without a range of some family admits nobody there:
	// ranges of the other family must not open it to all, as they do in kube-proxy.
	RestrictSources bool
	SourceRanges    []netip.Prefix // canonical, no duplicates, in the order of the Service

	ExternalTrafficLocal bool   // externalTrafficPolicy: Local
	InternalTrafficLocal bool   // internalTrafficPolicy: Local
	AffinitySeconds      uint32 // sessionAffinity: ClientIP with this timeout; 0: no affinity
	HealthCheckNodePort  uint16 // 0: none

	Ports []ServicePort // in the order of the Service
}

// CompareServices is the order of a snapshot's Services.
func CompareServices(a, b *Service) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// Changed returns the Services of now that old does not have with the same pointer,
// and those of old that now does not have by name. Both are sorted as old and now are.
func Changed(old, now []*Service) (come, gone []*Service) {
	eachChange(old, now, func(i int) {
		gone = append(gone, old[i])
	}, func(i int) {
		come = append(come, now[i])
	}, func(int) {})
	gone = slices.DeleteFunc(gone, func(s *Service) bool {
		_, there := slices.BinarySearchFunc(come, s, CompareServices)
		return there
	})
	return come, gone
}

// eachChange walks the Services of two snapshots: gone and kept get the places of
// those in old that are not, or are, in now with the same pointer; come gets the
// places in now of all others. come and kept are called in the order of now.
func eachChange(old, now []*Service, gone, come, kept func(int)) {
	n := 0
	for i, svc := range now {
		for n < len(old) && old[n] != svc && CompareServices(old[n], svc) <= 0 {
			gone(n)
			n++
		}
		if n < len(old) && old[n] == svc {
			kept(n)
			n++
			continue
		}
		come(i)
	}
	for ; n < len(old); n++ {
		gone(n)
	}
}

// ServicePort is one port of a Service, with the endpoints that serve it.
type ServicePort struct {
	Name      string // empty: the Service's only port, unnamed
	Protocol  Protocol
	Port      uint16
	NodePort  uint16     // 0: none
	Endpoints []Endpoint // sorted by the text of Addr, no duplicates, both families

	// Taken are those of the Service's addresses that this port must leave alone:
	// another Service serves them on the same port, or the address is listed
	// twice. Usually empty. A node port that is taken is 0.
	Taken []Claim
}

// Claim is an address of a Service in one of its roles.
type Claim struct {
	Role AddressRole
	Addr netip.Addr
}

// AddressRole says where a Service has an address from.
type AddressRole uint8

const (
	ClusterIP AddressRole = iota + 1
	LoadBalancerIP
	ExternalIP
	NodePort // any address of the node that has node ports; never in a Claim
)

// Endpoint is one address and port that serves a ServicePort, with the facts
// that decide whether this node may use it.
type Endpoint struct {
	Addr     netip.AddrPort
	NodeName string // empty: unknown, never local

	Ready       bool
	Serving     bool
	Terminating bool

	ZoneHints []string // zones that should use it; empty: no hint
	NodeHints []string // nodes that should use it; empty: no hint
}

// in reports whether the Service is served in family f: it has a cluster IP of it.
func (s *Service) in(f Family) bool {
	return slices.ContainsFunc(s.ClusterIPs, func(a netip.Addr) bool { return FamilyOf(a) == f })
}

// ID is the name of a service port as kube-proxy writes it in comments and
// hashes into chain names: namespace/name, then :port if the port has a name.
func (s *Service) ID(p *ServicePort) string {
	id := s.Namespace + "/" + s.Name
	if p.Name != "" {
		id += ":" + p.Name
	}
	return id
}

// serves returns those of the addresses that are of family f and not taken from
// the port in the given role, in the given order.
func (p *ServicePort) serves(f Family, role AddressRole, addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if FamilyOf(a) == f && !slices.Contains(p.Taken, Claim{role, a}) {
			out = append(out, a)
		}
	}
	return out
}
