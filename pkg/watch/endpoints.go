package watch

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"

	"svcproxy/pkg/rules"
)

// found is an endpoint and the slice it is from.
type found struct {
	ep    rules.Endpoint
	slice string
}

// portKey says which service port a slice's port belongs to.
type portKey struct {
	name     string
	protocol rules.Protocol
}

// withEndpoints fills in the endpoints of the ports from all slices of their
// Service. The result does not depend on the order of slices, nor on that of
// endpoints in them. clusterIPs are the Service's own.
func withEndpoints(ports []rules.ServicePort, all []*discoveryv1.EndpointSlice, clusterIPs []netip.Addr, ps *problems) []rules.ServicePort {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	byPort := map[portKey]map[netip.AddrPort]found{}
	for _, p := range ports {
		byPort[portKey{p.Name, p.Protocol}] = map[netip.AddrPort]found{}
	}
	for _, s := range all {
		c := sliceConverter{problems: problems{object: s.Namespace + "/" + s.Name}, api: s, clusterIPs: clusterIPs, byPort: byPort}
		c.convert()
		ps.list = append(ps.list, c.list...)
	}
	for i := range ports {
		ports[i].Endpoints = sortedEndpoints(byPort[portKey{ports[i].Name, ports[i].Protocol}])
	}
	return ports
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

type sliceConverter struct {
	problems
	api        *discoveryv1.EndpointSlice
	clusterIPs []netip.Addr
	byPort     map[portKey]map[netip.AddrPort]found
}

func (c *sliceConverter) convert() {
	var family rules.Family
	switch c.api.AddressType {
	case discoveryv1.AddressTypeIPv4:
		family = rules.IPv4
	case discoveryv1.AddressTypeIPv6:
		family = rules.IPv6
	case discoveryv1.AddressTypeFQDN:
		return
	default:
		c.add("addressType", string(c.api.AddressType), "must be IPv4, IPv6 or FQDN")
		return
	}
	for i := range c.api.Endpoints {
		ep := &c.api.Endpoints[i]
		if len(ep.Addresses) == 0 {
			c.add(fmt.Sprintf("endpoints[%d].addresses", i), "", "is empty")
			continue
		}
		// All addresses of an endpoint are the same one by definition; consumers
		// use the first.
		field := fmt.Sprintf("endpoints[%d].addresses[0]", i)
		addr, reason := parseUnicast(ep.Addresses[0])
		if reason == "" && rules.FamilyOf(addr) != family {
			reason = "is not of the slice's address type, " + string(c.api.AddressType)
		}
		if reason == "" && slices.Contains(c.clusterIPs, addr) {
			reason = "is the Service's own cluster IP" // which would lead nowhere: a packet is rewritten once
		}
		if reason != "" {
			c.add(field, ep.Addresses[0], reason)
			continue
		}
		c.endpoint(field, addr, ep)
	}
	c.checkPorts()
}

// endpoint adds an address under every port of the slice.
func (c *sliceConverter) endpoint(field string, addr netip.Addr, api *discoveryv1.Endpoint) {
	ep := convertEndpoint(api)
	for i := range c.api.Ports {
		key, port, ok := slicePort(&c.api.Ports[i])
		eps := c.byPort[key]
		if !ok || eps == nil {
			continue
		}
		ep.Addr = netip.AddrPortFrom(addr, port)
		old, twice := eps[ep.Addr]
		if twice {
			c.add(field, addr.String(), fmt.Sprintf("is in slice %s already; the one that is more ready counts", old.slice))
		}
		if !twice || better(&ep, &old.ep) {
			eps[ep.Addr] = found{ep, c.api.Name}
		}
	}
}

// slicePort returns what a slice's port is for. A port without number means all
// ports, which a Service cannot use; one without name or protocol has the API's
// defaults.
func slicePort(p *discoveryv1.EndpointPort) (key portKey, port uint16, ok bool) {
	if p.Port == nil || !validPort(*p.Port) {
		return portKey{}, 0, false
	}
	key.protocol = rules.TCP
	if p.Protocol != nil {
		if key.protocol, ok = convertProtocol(*p.Protocol); !ok {
			return portKey{}, 0, false
		}
	}
	if p.Name != nil {
		key.name = *p.Name
	}
	return key, uint16(*p.Port), true
}

func (c *sliceConverter) checkPorts() {
	for i, p := range c.api.Ports {
		if p.Port != nil && !validPort(*p.Port) {
			c.add(fmt.Sprintf("ports[%d].port", i), strconv.Itoa(int(*p.Port)), reasonNotPortNumber)
		}
		if p.Protocol != nil {
			if _, ok := convertProtocol(*p.Protocol); !ok {
				c.add(fmt.Sprintf("ports[%d].protocol", i), string(*p.Protocol), "must be TCP, UDP or SCTP")
			}
		}
	}
}

// convertEndpoint reads all but the address. An unknown condition counts as the
// API says: ready, serving, not terminating.
func convertEndpoint(api *discoveryv1.Endpoint) rules.Endpoint {
	is := func(b *bool, unknown bool) bool {
		if b == nil {
			return unknown
		}
		return *b
	}
	ep := rules.Endpoint{
		Ready:       is(api.Conditions.Ready, true),
		Serving:     is(api.Conditions.Serving, true),
		Terminating: is(api.Conditions.Terminating, false),
	}
	if api.NodeName != nil {
		ep.NodeName = *api.NodeName
	}
	if api.Hints != nil {
		for _, z := range api.Hints.ForZones {
			ep.ZoneHints = append(ep.ZoneHints, z.Name)
		}
		for _, n := range api.Hints.ForNodes {
			ep.NodeHints = append(ep.NodeHints, n.Name)
		}
	}
	return ep
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
