package watch

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"svcproxy/pkg/rules"
)

// claim is what only one Service can have: a port of an address, or a port of
// the node itself.
type claim struct {
	addr     netip.Addr // invalid: a node port or health check port
	protocol rules.Protocol
	port     uint16
}

func (c claim) String() string {
	at := fmt.Sprint(c.port)
	if c.addr.IsValid() {
		at = netip.AddrPortFrom(c.addr, c.port).String()
	}
	return at + "/" + string(c.protocol)
}

// claimant is one Service's reason to have a claim.
type claimant struct {
	created int64 // of the Service, as in bareService
	key     key
	port    int32             // which of Service.Ports; its length stands for the health check port
	role    rules.AddressRole // 0: a port of the node
}

// compare orders claimants: the first one wins. A Service's cluster IP is nobody
// else's to take, and an external IP can be written by anyone who may write a
// Service (CVE-2020-8554); among equals the oldest has it.
func (a claimant) compare(b claimant) int {
	return cmp.Or(
		cmp.Compare(a.role, b.role),
		cmp.Compare(a.created, b.created),
		strings.Compare(a.key.namespace, b.key.namespace),
		strings.Compare(a.key.name, b.key.name),
		cmp.Compare(a.port, b.port))
}

// claims holds who wants what, in the order of claimant.compare. Nearly all
// lists have one element.
type claims map[claim][]claimant

// replace takes a Service's old claims out and puts its new ones in. Either value
// may be nil. It calls contested for every other Service that wants one of them.
func (c claims) replace(before, after *joined, k key, contested func(key)) {
	eachClaim(k, before, func(cl claim, by claimant) {
		rest := slices.DeleteFunc(c[cl], func(o claimant) bool { return o == by })
		for _, o := range rest {
			contested(o.key)
		}
		if c[cl] = rest; len(rest) == 0 {
			delete(c, cl)
		}
	})
	eachClaim(k, after, func(cl claim, by claimant) {
		for _, o := range c[cl] {
			contested(o.key)
		}
		i, _ := slices.BinarySearchFunc(c[cl], by, claimant.compare)
		c[cl] = slices.Insert(c[cl], i, by)
	})
}

// eachClaim lists what a converted Service wants.
func eachClaim(k key, j *joined, see func(claim, claimant)) {
	v := j.value
	if v == nil {
		return
	}
	by := claimant{created: j.created, key: k}
	for i := range v.Ports {
		p := &v.Ports[i]
		by.port = int32(i)
		for _, of := range []struct {
			role  rules.AddressRole
			addrs []netip.Addr
		}{{rules.ClusterIP, v.ClusterIPs}, {rules.LoadBalancerIP, v.LoadBalancerIPs}, {rules.ExternalIP, v.ExternalIPs}} {
			by.role = of.role
			for _, a := range of.addrs {
				see(claim{a, p.Protocol, p.Port}, by)
			}
		}
		if by.role = 0; p.NodePort != 0 {
			see(claim{protocol: p.Protocol, port: p.NodePort}, by)
		}
	}
	if v.HealthCheckNodePort != 0 {
		by.role, by.port = 0, int32(len(v.Ports))
		see(claim{protocol: rules.TCP, port: v.HealthCheckNodePort}, by)
	}
}

// settle returns what is left to a Service of what it wants: its own value if it
// is all of it, else a copy without what others have, and one problem for each
// thing that another Service has.
func (c claims) settle(k key, j *joined) (*rules.Service, []Problem) {
	left := j.value
	var ps []Problem
	eachClaim(k, j, func(cl claim, by claimant) {
		winner := c[cl][0]
		if winner == by {
			return
		}
		if left == j.value {
			left = clone(j.value)
		}
		forgo(left, cl, by)
		if winner.key != k {
			ps = append(ps, Problem{Object: k.String(), Field: fieldOf(by, len(j.value.Ports)), Value: cl.String(),
				Reason: "belongs to Service " + winner.key.String() + " and is not served for this one"})
		}
	})
	return left, ps
}

func clone(s *rules.Service) *rules.Service {
	out := *s
	out.Ports = slices.Clone(s.Ports)
	return &out
}

// forgo takes a claim away from s.
func forgo(s *rules.Service, cl claim, by claimant) {
	switch {
	case int(by.port) == len(s.Ports):
		s.HealthCheckNodePort = 0
	case by.role == 0:
		s.Ports[by.port].NodePort = 0
	default:
		p := &s.Ports[by.port]
		p.Taken = append(slices.Clip(p.Taken), rules.Claim{Role: by.role, Addr: cl.addr})
	}
}

// fieldOf names the field that a claim comes from.
func fieldOf(by claimant, ports int) string {
	switch by.role {
	case rules.ClusterIP:
		return fieldClusterIPs
	case rules.LoadBalancerIP:
		return "status.loadBalancer.ingress"
	case rules.ExternalIP:
		return "spec.externalIPs"
	}
	if int(by.port) == ports {
		return "spec.healthCheckNodePort"
	}
	return "spec.ports.nodePort"
}
