package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"svcproxy/pkg/rules"
)

// destination is what a packet is for.
type destination struct {
	protocol rules.Protocol
	addr     netip.AddrPort
}

func (d destination) String() string { return fmt.Sprintf("%s %s", d.protocol, d.addr) }

// destinations lists every address and port of family f that the Services of a
// case have, and beside each those that must not match: the next port, the next
// address, another protocol.
func (o *apiObjects) destinations(f rules.Family) []destination {
	d := &destinationSet{family: f, set: map[destination]bool{}}
	k := known(f)
	nodes := append(o.nodeAddresses(), k.loopback, k.otherNode)
	for _, s := range o.services {
		vips := virtualAddresses(&s)
		for _, p := range s.Spec.Ports {
			protocol := rules.Protocol(cmp.Or(strings.ToLower(string(p.Protocol)), "tcp"))
			for _, a := range vips {
				d.withNeighbours(protocol, a, p.Port)
				d.add(protocol, a, p.NodePort)
			}
			for _, a := range nodes {
				d.add(protocol, a, p.Port)
				if p.NodePort != 0 {
					d.withNeighbours(protocol, a, p.NodePort)
				}
			}
			d.add(protocol, k.outside, p.Port)
			d.add(protocol, k.outside, p.NodePort)
		}
		for _, a := range append(nodes, vips...) {
			d.add(rules.TCP, a, s.Spec.HealthCheckNodePort)
		}
	}
	for _, s := range o.slices {
		for _, e := range s.Endpoints {
			for _, p := range s.Ports {
				if a, err := netip.ParseAddr(e.Addresses[0]); err == nil && p.Port != nil && !a.Is4In6() {
					d.add(rules.TCP, a, *p.Port)
				}
			}
		}
	}
	return d.sorted()
}

// virtualAddresses are all addresses that an object names for a Service, whether
// or not they should be served.
func virtualAddresses(s *corev1.Service) []netip.Addr {
	texts := append(slices.Clone(s.Spec.ClusterIPs), s.Spec.ExternalIPs...)
	for _, in := range s.Status.LoadBalancer.Ingress {
		texts = append(texts, in.IP)
	}
	var out []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a)
		}
	}
	return out
}

type destinationSet struct {
	family rules.Family
	set    map[destination]bool
}

func (d *destinationSet) add(p rules.Protocol, a netip.Addr, port int32) {
	if a.IsValid() && rules.FamilyOf(a) == d.family && port > 0 && port <= 65535 {
		d.set[destination{p, netip.AddrPortFrom(a, uint16(port))}] = true
	}
}

func (d *destinationSet) withNeighbours(p rules.Protocol, a netip.Addr, port int32) {
	other := rules.UDP
	if p == rules.UDP {
		other = rules.TCP
	}
	d.add(p, a, port)
	d.add(other, a, port)
	d.add(p, a, port+1)
	d.add(p, a, port-1)
	d.add(p, a.Next(), port)
	d.add(p, a.Prev(), port)
}

func (d *destinationSet) sorted() []destination {
	var out []destination
	for dst := range d.set {
		out = append(out, dst)
	}
	slices.SortFunc(out, func(a, b destination) int {
		return cmp.Or(a.addr.Compare(b.addr), strings.Compare(string(a.protocol), string(b.protocol)))
	})
	return out
}
