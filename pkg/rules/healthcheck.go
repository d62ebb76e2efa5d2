package rules

import (
	"net/netip"
	"slices"
)

// HealthCheck is a Service's health check node port (KEP-27) in one family: load
// balancers ask there whether this node has endpoints for traffic with external
// policy Local.
type HealthCheck struct {
	Namespace, Name string // of the Service
	Port            uint16
	LocalEndpoints  int // ready endpoints of the family on this node, by address
}

// HealthChecks returns the health checks of those Services of a snapshot that the
// family has, in their order. Where two Services have the same port, which the API
// server does not let happen, the first one has it.
func HealthChecks(snap *Snapshot, f Family) []HealthCheck {
	var out []HealthCheck
	taken := map[uint16]bool{}
	for _, svc := range snap.Services {
		port := svc.HealthCheckNodePort
		if port == 0 || taken[port] || !svc.in(f) {
			continue
		}
		taken[port] = true
		out = append(out, HealthCheck{svc.Namespace, svc.Name, port, localReady(svc, &snap.Node, f)})
	}
	return out
}

// localReady counts the addresses of a family of ready endpoints on the node. One that
// serves several ports counts once, as in kube-proxy; one that is going away
// counts no more, so that load balancers stop sending before it is gone.
func localReady(svc *Service, node *Node, f Family) int {
	seen := map[netip.Addr]bool{}
	for _, p := range svc.Ports {
		for i := range p.Endpoints {
			if ep := &p.Endpoints[i]; ep.Ready && ep.on(node) && FamilyOf(ep.Addr.Addr()) == f {
				seen[ep.Addr.Addr()] = true
			}
		}
	}
	return len(seen)
}

// ListenAddresses returns the addresses on which what belongs to node ports
// listens, of one family, sorted; an unspecified address stands for all. own tells the
// addresses of the node's interfaces, as its Node names others too and not all of these;
// it is called only where not all are listened on, and its error is returned.
func ListenAddresses(cfg *Config, node *Node, own func() ([]netip.Addr, error)) ([]netip.Addr, error) {
	ranges := nodePortRanges(cfg, node)
	switch {
	case len(ranges) == 0:
		return nil, nil
	case ranges[0].Bits() == 0:
		return []netip.Addr{ranges[0].Addr()}, nil
	}
	all, err := own()
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool {
		return !slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(a) })
	})
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}
