package watch

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"svcproxy/pkg/rules"
)

// endpointSlice is what counts of an EndpointSlice.
type endpointSlice struct {
	ident
	service   string // empty: it belongs to none
	ports     []slicePort
	endpoints []endpoint
	problems  []Problem // those that do not depend on other objects
	triggered int64     // when what changed it happened, in microseconds since 1970; 0: unknown
}

type slicePort struct {
	portKey
	port uint16
}

// portKey says which service port a slice's port belongs to.
type portKey struct {
	name     string
	protocol rules.Protocol
}

// endpoint is one of a slice, with all of its ports.
type endpoint struct {
	addr  netip.Addr // invalid: not usable
	node  string
	hints *hints // nil: none

	ready, serving, terminating bool
}

type hints struct{ zones, nodes []string }

// convertSlice reads a slice. An endpoint without usable address keeps its place:
// others are named by theirs.
func convertSlice(api *discoveryv1.EndpointSlice) *endpointSlice {
	out := &endpointSlice{ident: identOf(&api.ObjectMeta), service: api.Labels[discoveryv1.LabelServiceName]}
	if at, err := time.Parse(time.RFC3339Nano, api.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
		out.triggered = at.UnixMicro()
	}
	c := sliceConverter{problems{object: out.key.String()}, api, out}
	c.convert()
	out.problems = c.list
	return out
}

type sliceConverter struct {
	problems
	api *discoveryv1.EndpointSlice
	out *endpointSlice
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
	c.out.endpoints = make([]endpoint, len(c.api.Endpoints))
	var last *hints
	for i := range c.api.Endpoints {
		api, ep := &c.api.Endpoints[i], &c.out.endpoints[i]
		ep.addr = c.address(i, api.Addresses, family)
		last = convertHints(api.Hints, last)
		ep.hints = last
		if api.NodeName != nil {
			ep.node = intern(*api.NodeName)
		}
		ep.conditions(&api.Conditions)
	}
	c.ports()
}

// address reads the first one: all addresses of an endpoint are the same one by
// definition, and consumers use the first.
func (c *sliceConverter) address(i int, texts []string, family rules.Family) netip.Addr {
	if len(texts) == 0 {
		c.add(fmt.Sprintf("endpoints[%d].addresses", i), "", "is empty")
		return netip.Addr{}
	}
	addr, reason := parseUnicast(texts[0])
	if reason == "" && rules.FamilyOf(addr) != family {
		reason = "is not of the slice's address type, " + string(c.api.AddressType)
	}
	if reason != "" {
		c.add(addressField(i), texts[0], reason)
		return netip.Addr{}
	}
	return addr
}

func addressField(i int) string { return fmt.Sprintf("endpoints[%d].addresses[0]", i) }

// conditions reads them: an unknown one counts as the API says, which is ready,
// serving, not terminating.
func (e *endpoint) conditions(api *discoveryv1.EndpointConditions) {
	is := func(b *bool, unknown bool) bool {
		if b == nil {
			return unknown
		}
		return *b
	}
	e.ready, e.serving, e.terminating = is(api.Ready, true), is(api.Serving, true), is(api.Terminating, false)
}

// convertHints returns last, the hints of the endpoint before, if these are the
// same: most of a slice's are.
func convertHints(api *discoveryv1.EndpointHints, last *hints) *hints {
	if api == nil || len(api.ForZones)+len(api.ForNodes) == 0 {
		return nil
	}
	var h hints
	for _, z := range api.ForZones {
		h.zones = append(h.zones, intern(z.Name))
	}
	for _, n := range api.ForNodes {
		h.nodes = append(h.nodes, intern(n.Name))
	}
	if last != nil && slices.Equal(last.zones, h.zones) && slices.Equal(last.nodes, h.nodes) {
		return last
	}
	return &h
}

// ports takes the valid ones. A port without number means all ports, which a
// Service cannot use; one without name or protocol has the API's defaults.
func (c *sliceConverter) ports() {
	for i, api := range c.api.Ports {
		p := slicePort{portKey: portKey{protocol: rules.TCP}}
		validProtocol := true
		if api.Protocol != nil {
			if p.protocol, validProtocol = convertProtocol(*api.Protocol); !validProtocol {
				c.add(fmt.Sprintf("ports[%d].protocol", i), string(*api.Protocol), "must be TCP, UDP or SCTP")
			}
		}
		if api.Name != nil {
			p.name = intern(*api.Name)
		}
		switch {
		case api.Port == nil:
		case !validPort(*api.Port):
			c.add(fmt.Sprintf("ports[%d].port", i), strconv.Itoa(int(*api.Port)), reasonNotPortNumber)
		case validProtocol:
			p.port = uint16(*api.Port)
			c.out.ports = append(c.out.ports, p)
		}
	}
}
