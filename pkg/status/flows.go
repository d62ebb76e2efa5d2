package status

import (
	"net/netip"
	"strconv"
	"strings"

	"svcproxy/pkg/rules"
)

// FlowCounts counts conntrack's flows by what their clients send to and who answers:
// there are many more flows than pairs of these.
type FlowCounts map[flowEnds]uint64

// flowEnds: to without an address is a port, whatever the address.
type flowEnds struct {
	protocol rules.Protocol
	to, by   netip.AddrPort
}

// Protocols lists those whose flows can be to a Service.
func Protocols() []rules.Protocol { return []rules.Protocol{rules.TCP, rules.UDP, rules.SCTP} }

// Add counts a flow, unless it is answered by whom it is sent to.
func (c FlowCounts) Add(f rules.Flow) {
	if f.Dst == f.From {
		return
	}
	c[flowEnds{f.Protocol, f.Dst, f.From}]++
	c[flowEnds{f.Protocol, anyAddress(f.Dst.Port()), f.From}]++
}

func anyAddress(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, port) }

// CountFlows fills in the flows of each endpoint.
func (s *Service) CountFlows(c FlowCounts) {
	for i := range s.Ports {
		p := &s.Ports[i]
		for j := range p.Endpoints {
			e := &p.Endpoints[j]
			n := p.flowsTo(e, c)
			e.Flows = &n
		}
	}
}

func (p *Port) flowsTo(e *Endpoint, c FlowCounts) uint64 {
	by, err := netip.ParseAddrPort(e.Address)
	if err != nil {
		return 0
	}
	n := uint64(0)
	for _, a := range p.Addresses {
		if to, ok := parseAddress(a.Address); ok && a.Family == e.Family {
			n += c[flowEnds{rules.Protocol(p.Protocol), to, by}]
		}
	}
	return n
}

// parseAddress reads ip:port or :port.
func parseAddress(s string) (netip.AddrPort, bool) {
	if port, ok := strings.CutPrefix(s, ":"); ok {
		n, err := strconv.ParseUint(port, 10, 16)
		return anyAddress(uint16(n)), err == nil
	}
	a, err := netip.ParseAddrPort(s)
	return a, err == nil
}
