package rules

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// FateDiff says whether packets to Services fare as they should.
type FateDiff struct {
	Services int            // compared: all of the family that are in the snapshot
	Differ   []ServiceFates // those with packets that fare otherwise, by name
}

// ServiceFates is the packets of one Service that fare otherwise.
type ServiceFates struct {
	Name    string // namespace/name; empty: the kernel serves an address, and nothing tells for whom
	Wanted  bool   // it is in the snapshot
	Packets []PacketFates
}

// PacketFates is what becomes of a packet.
type PacketFates struct {
	Protocol   Protocol
	To         netip.AddrPort
	From       Client
	Have, Want []Fate
	Unknown    string // why it cannot be told; then there are no fates
}

// Fates sends a packet of each kind of client to each address and port of each Service
// through either ruleset, and compares. So it does with addresses that only the kernel
// has rules for. Others' rules are left out on both sides. It returns nil if a table
// cannot be read.
func (c *Comparison) Fates() *FateDiff {
	if len(c.unreadable) > 0 {
		return nil
	}
	services := c.builder.served()
	f := c.comparer()
	for _, svc := range services {
		f.service(svc)
	}
	for i := range c.changes {
		f.removed(&c.changes[i])
	}
	wanted := c.wanted()
	for i := range f.out {
		f.out[i].Wanted = wanted[f.out[i].Name]
	}
	slices.SortFunc(f.out, func(a, b ServiceFates) int { return strings.Compare(a.Name, b.Name) })
	return &FateDiff{Services: len(services), Differ: f.out}
}

// fateComparer compares one destination after the other, none twice.
type fateComparer struct {
	*Comparison
	host       *Host
	had, built *sieve
	done       map[destination]bool
	out        []ServiceFates
	places     map[string]int // in out
}

func (c *Comparison) comparer() *fateComparer {
	host := &Host{Addresses: c.builder.node.addresses(c.want.Family)}
	return &fateComparer{
		Comparison: c, host: host, had: newSieve(c.have, host), built: newSieve(c.want, host),
		done: map[destination]bool{}, places: map[string]int{},
	}
}

// service compares what goes to one Service.
func (c *fateComparer) service(svc *Service) {
	var to []destination
	for i := range svc.Ports {
		to = append(to, c.destinations(svc, &svc.Ports[i])...)
	}
	for _, a := range c.host.Addresses {
		if svc.HealthCheckNodePort != 0 {
			to = append(to, destination{TCP, netip.AddrPortFrom(a, svc.HealthCheckNodePort)})
		}
	}
	c.add(svc.Namespace+"/"+svc.Name, to)
}

// destinations lists what a packet to a port may be for.
func (c *fateComparer) destinations(svc *Service, port *ServicePort) []destination {
	f := c.want.Family
	addrs := slices.Concat(port.serves(f, ClusterIP, svc.ClusterIPs), port.serves(f, ExternalIP, svc.ExternalIPs),
		port.serves(f, LoadBalancerIP, svc.LoadBalancerIPs))
	var out []destination
	for _, a := range addrs {
		out = append(out, destination{port.Protocol, netip.AddrPortFrom(a, port.Port)})
	}
	return append(out, c.nodePort(port.Protocol, port.NodePort)...)
}

// nodePort lists the node's addresses with a port; nothing for port 0.
func (c *fateComparer) nodePort(p Protocol, port uint16) []destination {
	if port == 0 {
		return nil
	}
	local := localhostOf(c.want.Family)
	var out []destination
	for _, a := range append(slices.Clone(c.host.Addresses), local) {
		out = append(out, destination{p, netip.AddrPortFrom(a, port)})
	}
	return out
}

// removed compares the destinations of rules that only the kernel has, in a chain that
// leads to Services: those that are gone, or have another address now.
func (c *fateComparer) removed(change *chainChange) {
	if !isShared(change.table, change.name) {
		return
	}
	for _, r := range without(change.have, change.want) {
		name := c.whose.rule(change.table, &r)
		c.add(name, c.matched(&r))
	}
}

// matched lists what a rule for one port matches: its one address, or the node's.
func (c *fateComparer) matched(r *Rule) []destination {
	single := r.DstPort.First != 0 && r.DstPort.First == r.DstPort.Last
	switch {
	case !single || r.Protocol == "":
		return nil
	case !r.Dst.Prefix.IsValid():
		return c.nodePort(r.Protocol, r.DstPort.First)
	case r.Dst.Prefix.IsSingleIP() && !r.Dst.Not:
		return []destination{{r.Protocol, netip.AddrPortFrom(r.Dst.Prefix.Addr(), r.DstPort.First)}}
	}
	return nil
}

// add compares more destinations of a Service.
func (c *fateComparer) add(name string, to []destination) {
	var packets []PacketFates
	for _, d := range to {
		packets = append(packets, c.compare(d)...)
	}
	if len(packets) == 0 {
		return
	}
	i, ok := c.places[name]
	if !ok {
		i = len(c.out)
		c.places[name] = i
		c.out = append(c.out, ServiceFates{Name: name})
	}
	c.out[i].Packets = append(c.out[i].Packets, packets...)
}

// compare returns the packets to one destination that fare otherwise.
func (c *fateComparer) compare(to destination) []PacketFates {
	if c.done[to] {
		return nil
	}
	c.done[to] = true
	have, want := c.had.to(to), c.built.to(to)
	if sameTables(have, want) {
		return nil
	}
	var out []PacketFates
	for _, from := range clients(c.want.Family, c.host, to.addr.Addr(), have, want) {
		p := PacketFates{Protocol: to.protocol, To: to.addr, From: from}
		var errs [2]error
		p.Have, errs[0] = Walk(have, *c.host, from.packet(to))
		p.Want, errs[1] = Walk(want, *c.host, from.packet(to))
		switch err := cmp.Or(errs[0], errs[1]); {
		case err != nil:
			p.Have, p.Want, p.Unknown = nil, nil, err.Error()
		case fareAlike(p.Have, p.Want):
			continue
		}
		out = append(out, p)
	}
	return out
}

// sameShare is how far apart probabilities of one share can be: rules of either
// layout round them by as much as 2^-32 at each step.
const sameShare = 1e-6

// fareAlike reports whether two packets fare alike.
func fareAlike(a, b []Fate) bool {
	if len(a) != len(b) {
		return false
	}
	shares := make(map[Fate]float64, len(a))
	for _, f := range a {
		p := f.Probability
		f.Probability = 0
		shares[f] = p
	}
	return !slices.ContainsFunc(b, func(f Fate) bool {
		p := f.Probability
		f.Probability = 0
		share, ok := shares[f]
		return !ok || math.Abs(share-p) > sameShare
	})
}
