package rules

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// AsBefore returns what may go on serving in place of a changed Service that the
// kernel refuses: the Service as it was before, with those of its endpoints that
// it still has. Affinity and traffic policies stay as they were. It returns nil
// where that would serve what the Service no longer is: its addresses, ports or
// source ranges are others, or others have them now.
func AsBefore(before, now *Service) *Service {
	if !reflect.DeepEqual(frame(before), frame(now)) {
		return nil
	}
	out := *before
	out.Ports = slices.Clone(before.Ports)
	for i := range out.Ports {
		out.Ports[i].Endpoints = stillThere(before.Ports[i].Endpoints, now.Ports[i].Endpoints)
	}
	return &out
}

// frame is a Service without what AsBefore lets differ.
func frame(s *Service) *Service {
	out := *WithoutEndpoints(s)
	out.AffinitySeconds, out.ExternalTrafficLocal, out.InternalTrafficLocal = 0, false, false
	return &out
}

// stillThere returns those of now whose addresses were there before.
func stillThere(before, now []Endpoint) []Endpoint {
	was := make(map[netip.AddrPort]bool, len(before))
	for i := range before {
		was[before[i].Addr] = true
	}
	return slices.DeleteFunc(slices.Clone(now), func(e Endpoint) bool { return !was[e.Addr] })
}

// WithoutEndpoints returns the Service without endpoints: its rules refuse connections
// to its addresses.
func WithoutEndpoints(s *Service) *Service {
	out := *s
	out.Ports = slices.Clone(s.Ports)
	for i := range out.Ports {
		out.Ports[i].Endpoints = nil
	}
	return &out
}

// PortIn returns the ID of the Service's port that a line of rules is about; only
// namespace/name if that cannot be told.
func (s *Service) PortIn(line string) string {
	for i := range s.Ports {
		p := &s.Ports[i]
		id := s.ID(p)
		if strings.Contains(line, serviceHash(id, p.Protocol)) || strings.Contains(line, `"`+id+` `) || strings.Contains(line, `"`+id+`"`) {
			return id
		}
		for j := range p.Endpoints {
			if strings.Contains(line, endpointChain(id, p.Protocol, p.Endpoints[j].Addr)) {
				return id
			}
		}
	}
	return s.Namespace + "/" + s.Name
}
