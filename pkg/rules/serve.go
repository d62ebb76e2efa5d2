package rules

import "net/netip"

// Served says how the rules of one family serve one port of a Service.
type Served struct {
	Port     *ServicePort
	Entries  []Entry   // the addresses that it has in the family
	Balances []Balance // what spreads its connections; empty: no endpoint serves it

	id string
}

// Entry is an address of a port, and what becomes of packets to it.
type Entry struct {
	Role    AddressRole
	Addr    netip.Addr // invalid: Role is NodePort
	Port    uint16
	Chain   string // of nat, which they go to; empty: none
	Refused Refused
}

// Refused says whose packets the filter table refuses.
type Refused uint8

const (
	RefusedNone    Refused = iota
	RefusedOutside         // those from outside the cluster: policy Local leaves them no endpoint here
	RefusedAll
)

// Balance is a chain that gives each of its endpoints the same share of the
// connections under one traffic policy.
type Balance struct {
	Local     bool   // policy Local: the node's own endpoints
	Chain     string // KUBE-SVL if Local, else KUBE-SVC; with many endpoints it leads to others that begin with its name
	Endpoints []netip.AddrPort
}

// Serve says how the rules that cfg gives on a node serve each port of a Service.
// It is empty if the Service has no cluster IP of the family; a port that the kernel
// cannot serve has neither entries nor balances.
func Serve(svc *Service, node *Node, cfg *Config) []Served {
	if !svc.in(cfg.Family) {
		return nil
	}
	out := make([]Served, len(svc.Ports))
	for i := range svc.Ports {
		port := &svc.Ports[i]
		s := &out[i]
		s.Port, s.id = port, svc.ID(port)
		if port.Protocol == SCTP && cfg.Missing.Has(FeatureSCTP) {
			continue
		}
		p := newPortRules(svc, port, node, cfg, nil)
		s.Entries, s.Balances = p.entries(), p.balances()
	}
	return out
}

// EndpointChain is the name of the chain that an endpoint of the port has.
func (s *Served) EndpointChain(ep netip.AddrPort) string {
	return endpointChain(s.id, s.Port.Protocol, ep)
}

// entries lists what clusterIP, externalIPs, loadBalancerIPs and nodePort write.
func (p *portRules) entries() []Entry {
	var out []Entry
	for _, ip := range p.clusterIPs {
		e := Entry{Role: ClusterIP, Addr: ip, Port: p.port.Port, Refused: RefusedAll}
		if local := p.svc.InternalTrafficLocal; p.served(local) {
			e.Chain, e.Refused = p.policyChain(local), RefusedNone
		}
		out = append(out, e)
	}
	for _, ip := range p.external {
		out = append(out, p.outside(Entry{Role: ExternalIP, Addr: ip, Port: p.port.Port}, p.externalChainName()))
	}
	chain := p.externalChainName()
	if p.restricted {
		chain = p.firewallChainName()
	}
	for _, ip := range p.balancerIPs {
		out = append(out, p.outside(Entry{Role: LoadBalancerIP, Addr: ip, Port: p.port.Port}, chain))
	}
	for _, ip := range p.closed {
		out = append(out, Entry{Role: LoadBalancerIP, Addr: ip, Port: p.port.Port, Refused: RefusedAll})
	}
	if p.port.NodePort != 0 {
		out = append(out, p.outside(Entry{Role: NodePort, Port: p.port.NodePort}, p.externalChainName()))
	}
	return out
}

// outside completes an entry for clients outside the cluster.
func (p *portRules) outside(e Entry, chain string) Entry {
	switch {
	case !p.eps.any:
		e.Refused = RefusedAll
	case !p.served(p.svc.ExternalTrafficLocal):
		e.Chain, e.Refused = chain, RefusedOutside
	default:
		e.Chain = chain
	}
	return e
}

// balances lists what balancers writes.
func (p *portRules) balances() []Balance {
	var out []Balance
	add := func(local, used bool, eps []Endpoint) {
		if !used || len(eps) == 0 {
			return
		}
		b := Balance{Local: local, Chain: p.policyChain(local)}
		for i := range eps {
			b.Endpoints = append(b.Endpoints, eps[i].Addr)
		}
		out = append(out, b)
	}
	add(false, p.usesCluster(), p.eps.cluster)
	add(true, p.usesLocal(), p.eps.local)
	return out
}
