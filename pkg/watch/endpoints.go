package watch

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"svcproxy/pkg/rules"
)

// endpointCollector finds the endpoints of one Service's ports.
type endpointCollector struct {
	clusterIPs []netip.Addr // the Service's own
	byPort     map[portKey]map[netip.AddrPort]found
	problems   []Problem
}

// found is an endpoint and the slice it is from.
type found struct {
	ep    rules.Endpoint
	slice string
}

// collect returns the ports with their endpoints from all slices of the Service,
// which are sorted by name. The result does not depend on the order of endpoints
// in them.
func (c *endpointCollector) collect(ports []rules.ServicePort, all []*endpointSlice) []rules.ServicePort {
	ports = slices.Clone(ports)
	c.byPort = map[portKey]map[netip.AddrPort]found{}
	for _, p := range ports {
		c.byPort[portKey{p.Name, p.Protocol}] = map[netip.AddrPort]found{}
	}
	for _, s := range all {
		c.problems = append(c.problems, s.problems...)
		for i := range s.endpoints {
			if s.endpoints[i].addr.IsValid() {
				c.endpoint(s, i)
			}
		}
	}
	for i := range ports {
		ports[i].Endpoints = sortedEndpoints(c.byPort[portKey{ports[i].Name, ports[i].Protocol}])
	}
	return ports
}

// endpoint adds the i-th endpoint of a slice under every port of it.
func (c *endpointCollector) endpoint(s *endpointSlice, i int) {
	addr := s.endpoints[i].addr
	say := func(reason string) {
		c.problems = append(c.problems, Problem{Object: s.key.String(), Field: addressField(i), Value: addr.String(), Reason: reason})
	}
	if slices.Contains(c.clusterIPs, addr) {
		say("is the Service's own cluster IP") // which would lead nowhere: a packet is rewritten once
		return
	}
	for _, p := range s.ports {
		eps := c.byPort[p.portKey]
		if eps == nil {
			continue
		}
		ep := s.endpoints[i].at(p.port)
		old, twice := eps[ep.Addr]
		if twice {
			say(fmt.Sprintf("is in slice %s already; the one that is more ready counts", old.slice))
		}
		if !twice || better(&ep, &old.ep) {
			eps[ep.Addr] = found{ep, s.name}
		}
	}
}

// at returns an endpoint on one of its ports.
func (e *endpoint) at(port uint16) rules.Endpoint {
	out := rules.Endpoint{Addr: netip.AddrPortFrom(e.addr, port), NodeName: e.node,
		Ready: e.ready, Serving: e.serving, Terminating: e.terminating}
	if e.hints != nil {
		out.ZoneHints, out.NodeHints = e.hints.zones, e.hints.nodes
	}
	return out
}

// sortedEndpoints orders by the text of the address, as kube-proxy does.
func sortedEndpoints(in map[netip.AddrPort]found) []rules.Endpoint {
	if len(in) == 0 {
		return nil
	}
	type keyed struct {
		key string
		ep  rules.Endpoint
	}
	sorted := make([]keyed, 0, len(in))
	for _, f := range in {
		sorted = append(sorted, keyed{f.ep.Addr.String(), f.ep})
	}
	slices.SortFunc(sorted, func(a, b keyed) int { return strings.Compare(a.key, b.key) })
	out := make([]rules.Endpoint, len(sorted))
	for i := range sorted {
		out[i] = sorted[i].ep
	}
	return out
}

// better reports whether a says more for an address than b: of two slices one
// may be older. Equals are told apart by their content, so that the order of
// endpoints does not matter.
func better(a, b *rules.Endpoint) bool {
	if ra, rb := readiness(a), readiness(b); ra != rb {
		return ra > rb
	}
	return fmt.Sprint(*a) > fmt.Sprint(*b)
}

func readiness(e *rules.Endpoint) int {
	switch {
	case e.Ready && !e.Terminating:
		return 3
	case e.Ready:
		return 2
	case e.Serving && e.Terminating:
		return 1
	}
	return 0
}
