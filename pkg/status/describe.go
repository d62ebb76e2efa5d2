package status

import (
	"net/netip"
	"strconv"
	"strings"

	"svcproxy/pkg/rules"
)

// InForce is what one family's rules are made of.
type InForce struct {
	Config  *rules.Config
	Node    *rules.Node
	Service *rules.Service // as it is served; nil: it has no rules
}

// Describe returns the status of a Service without what changes by itself: its ports
// and endpoints, and the shares that the rules give these in each family.
func Describe(svc *rules.Service, families []InForce) Service {
	out := Service{
		Namespace: svc.Namespace, Name: svc.Name, Affinity: svc.AffinitySeconds,
		Internal: policy(svc.InternalTrafficLocal), Ports: make([]Port, len(svc.Ports)),
	}
	if outside(svc) {
		out.External = policy(svc.ExternalTrafficLocal)
	}
	for i := range svc.Ports {
		out.Ports[i] = describePort(&svc.Ports[i])
	}
	for _, f := range families {
		if f.Service == nil {
			continue
		}
		served := rules.Serve(f.Service, f.Node, f.Config)
		for i := range served {
			if p := portOf(svc, served[i].Port); p >= 0 {
				out.Ports[p].serve(f.Config.Family, &served[i])
			}
		}
	}
	return out
}

// outside: the Service has an address for clients outside the cluster.
func outside(svc *rules.Service) bool {
	for i := range svc.Ports {
		if svc.Ports[i].NodePort != 0 {
			return true
		}
	}
	return len(svc.ExternalIPs)+len(svc.LoadBalancerIPs) > 0
}

func policy(local bool) string {
	if local {
		return PolicyLocal
	}
	return PolicyCluster
}

// portOf returns which port of svc is another version of p; -1: none.
func portOf(svc *rules.Service, p *rules.ServicePort) int {
	for i := range svc.Ports {
		if o := &svc.Ports[i]; o == p || o.Protocol == p.Protocol && o.Port == p.Port {
			return i
		}
	}
	return -1
}

func describePort(p *rules.ServicePort) Port {
	out := Port{Name: p.Name, Protocol: string(p.Protocol), Port: p.Port, NodePort: p.NodePort, Addresses: []Address{}}
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		out.Endpoints = append(out.Endpoints, Endpoint{
			Family: rules.FamilyOf(e.Addr.Addr()).String(), Address: e.Addr.String(), Node: e.NodeName, State: state(e),
		})
	}
	return out
}

func state(e *rules.Endpoint) string {
	switch {
	case e.Ready:
		return Ready
	case e.Serving && e.Terminating:
		return Terminating
	}
	return Unready
}

// serve adds what the rules of one family say of the port.
func (p *Port) serve(f rules.Family, s *rules.Served) {
	for _, e := range s.Entries {
		p.Addresses = append(p.Addresses, Address{
			Family: f.String(), Role: roleName(e.Role), Address: entryAddress(e), Chain: e.Chain, Refused: refusedWord(e.Refused),
		})
	}
	for _, b := range s.Balances {
		p.Balances = append(p.Balances, Balance{Family: f.String(), Policy: policy(b.Local), Chain: b.Chain, Endpoints: len(b.Endpoints)})
		p.share(s, b)
	}
}

// share gives the endpoints of a balance their shares. Both lists are sorted by the
// text of addresses; what is in force may have some that are not wanted any more.
func (p *Port) share(s *rules.Served, b rules.Balance) {
	left := b.Endpoints
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		for len(left) > 0 && left[0].String() < e.Address {
			left = left[1:]
		}
		if len(left) == 0 || left[0].String() != e.Address {
			continue
		}
		e.Chain = s.EndpointChain(left[0])
		e.Shares = append(e.Shares, Share{Policy: policy(b.Local), Wanted: 1 / float64(len(b.Endpoints))})
		left = left[1:]
	}
}

func roleName(r rules.AddressRole) string {
	switch r {
	case rules.ClusterIP:
		return "ClusterIP"
	case rules.LoadBalancerIP:
		return "LoadBalancerIP"
	case rules.ExternalIP:
		return "ExternalIP"
	}
	return "NodePort"
}

// entryAddress is ip:port, or :port for all addresses that have node ports.
func entryAddress(e rules.Entry) string {
	if !e.Addr.IsValid() {
		return ":" + strconv.Itoa(int(e.Port))
	}
	return netip.AddrPortFrom(e.Addr, e.Port).String()
}

func refusedWord(r rules.Refused) string {
	switch r {
	case rules.RefusedAll:
		return RefusedAll
	case rules.RefusedOutside:
		return RefusedOutside
	}
	return ""
}

// hashLength is how much of a chain's name tells whose it is, behind its prefix.
const hashLength = 16

// Owner returns what the names of all chains of one Service port, or of one endpoint,
// have in common; false for a chain that is shared.
func Owner(chain string) (string, bool) {
	for _, prefix := range []string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"} {
		hash, ok := strings.CutPrefix(chain, prefix)
		if ok && len(hash) >= hashLength && !strings.Contains(hash[:hashLength], "-") {
			return hash[:hashLength], true
		}
	}
	return "", false
}

// Owners lists what Owner says of the chains of a Service.
func (s *Service) Owners() []string {
	var out []string
	for i := range s.Ports {
		p := &s.Ports[i]
		for _, b := range p.Balances {
			out = appendOwner(out, b.Chain)
		}
		for _, a := range p.Addresses {
			out = appendOwner(out, a.Chain)
		}
		for _, e := range p.Endpoints {
			out = appendOwner(out, e.Chain)
		}
	}
	return out
}

func appendOwner(out []string, chain string) []string {
	owner, ok := Owner(chain)
	if !ok || len(out) > 0 && out[len(out)-1] == owner {
		return out
	}
	return append(out, owner)
}
