package rules

import "net/netip"

// scaffoldJumps are the rules that lead from the built-in chains into ours, in
// the order in which each is inserted at the head of its chain: the last one
// comes to stand first. The same list in the same order as kube-proxy's, so that
// either finds the other's in place.
func scaffoldJumps() []Jump {
	isNew := StateMatch{States: StateNew}
	jump := func(t TableName, from, to, comment string, state StateMatch) Jump {
		return Jump{t, from, Rule{Comment: comment, State: state}.to(to)}
	}
	const (
		external = "kubernetes externally-visible service portals"
		health   = "kubernetes health check service ports"
		portals  = "kubernetes service portals"
		forward  = "kubernetes forwarding rules"
		firewall = "kubernetes load balancer firewall"
		post     = "kubernetes postrouting rules"
	)
	return []Jump{
		jump(Filter, "INPUT", chainExternalServices, external, isNew),
		jump(Filter, "FORWARD", chainExternalServices, external, isNew),
		jump(Filter, "INPUT", chainNodePorts, health, StateMatch{}),
		jump(Filter, "FORWARD", chainServices, portals, isNew),
		jump(Filter, "OUTPUT", chainServices, portals, isNew),
		jump(Filter, "FORWARD", chainForward, forward, StateMatch{}),
		jump(Filter, "INPUT", chainProxyFirewall, firewall, isNew),
		jump(Filter, "OUTPUT", chainProxyFirewall, firewall, isNew),
		jump(Filter, "FORWARD", chainProxyFirewall, firewall, isNew),
		jump(Nat, "OUTPUT", chainServices, portals, StateMatch{}),
		jump(Nat, "PREROUTING", chainServices, portals, StateMatch{}),
		jump(Nat, "POSTROUTING", chainPostrouting, post, StateMatch{}),
	}
}

// markMasq is nat KUBE-MARK-MASQ: it marks a packet, whose source
// KUBE-POSTROUTING will then rewrite.
func markMasq(cfg *Config) *Chain {
	set := Target{Name: MarkTarget, SetMark: MarkUpdate{cfg.MasqueradeMark, cfg.MasqueradeMark}}
	return &Chain{Name: chainMarkMasq, Rules: []Rule{{Target: set}}}
}

// postrouting is nat KUBE-POSTROUTING: it rewrites the source of marked packets,
// and takes the mark off so that a packet that passes again, out of a tunnel
// say, is not rewritten twice.
func postrouting(cfg *Config) *Chain {
	mark := cfg.MasqueradeMark
	return &Chain{Name: chainPostrouting, Rules: []Rule{
		{Mark: MarkMatch{Value: mark, Mask: mark, Not: true}, Target: Target{Name: Return}},
		{Target: Target{Name: MarkTarget, SetMark: MarkUpdate{Value: mark}}},
		{
			Comment: "kubernetes service traffic requiring SNAT",
			Target:  Target{Name: Masquerade, RandomFully: true},
		},
	}}
}

// forward is filter KUBE-FORWARD: it lets service traffic through on a node
// whose FORWARD policy is DROP.
func forward(cfg *Config) *Chain {
	c := &Chain{Name: chainForward}
	if cfg.DropInvalid {
		c.Rules = append(c.Rules, Rule{State: StateMatch{States: StateInvalid}}.to(Drop))
	}
	c.Rules = append(c.Rules,
		Rule{
			Comment: "kubernetes forwarding rules",
			Mark:    MarkMatch{Value: cfg.MasqueradeMark, Mask: cfg.MasqueradeMark},
		}.to(Accept),
		Rule{
			Comment: "kubernetes forwarding conntrack rule",
			State:   StateMatch{States: StateRelated | StateEstablished},
		}.to(Accept))
	return c
}

// toNodePorts is what stands last in nat KUBE-SERVICES: a packet to any address
// of the node may be for a node port. Loopback is left out, as the kernel does
// not route it from outside to a pod.
func toNodePorts(f Family) Rule {
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	if f == IPv6 {
		loopback = netip.MustParsePrefix("::1/128")
	}
	return Rule{
		Comment:  "kubernetes service nodeports; NOTE: this must be the last rule in this chain",
		Dst:      AddrMatch{loopback, true},
		DstLocal: true,
	}.to(chainNodePorts)
}
