package rules

import (
	"net/netip"
	"slices"
)

// scaffoldJumps are the rules that lead from the built-in chains into ours, in
// the order in which each is inserted at the head of its chain: the last one
// comes to stand first. The same list in the same order as kube-proxy's, so that
// either finds the other's in place.
func scaffoldJumps(cfg *Config) []Jump {
	isNew := StateMatch{States: StateNew}
	if cfg.Missing.Has(FeatureConntrack) {
		isNew = StateMatch{}
	}
	jump := func(t TableName, from, to, comment string, state StateMatch) Jump {
		return Jump{Table: t, Chain: from, Rule: cfg.fitRule(Rule{Comment: comment}.With(Rare{State: state}).to(to))}
	}
	const (
		external = "kubernetes externally-visible service portals"
		health   = "kubernetes health check service ports"
		portals  = "kubernetes service portals"
		forward  = "kubernetes forwarding rules"
		firewall = "kubernetes load balancer firewall"
		post     = "kubernetes postrouting rules"
	)
	jumps := []Jump{
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
	if cfg.OnLocalhost() {
		jumps = append(jumps,
			jump(Filter, "INPUT", chainKubeFirewall, "", StateMatch{}),
			jump(Filter, "OUTPUT", chainKubeFirewall, "", StateMatch{}))
	}
	return jumps
}

// markMasq is nat KUBE-MARK-MASQ: it marks a packet, whose source
// KUBE-POSTROUTING will then rewrite.
func markMasq(cfg *Config) *Chain {
	if cfg.Missing.Has(FeatureMark) {
		return &Chain{Name: chainMarkMasq}
	}
	set := Rule{}.to(MarkTarget).With(Rare{SetMark: MarkUpdate{cfg.MasqueradeMark, cfg.MasqueradeMark}})
	return &Chain{Name: chainMarkMasq, Rules: []Rule{set}}
}

// postrouting is nat KUBE-POSTROUTING: it rewrites the source of marked packets,
// and takes the mark off so that a packet that passes again, out of a tunnel
// say, is not rewritten twice. Without marks nothing is: to rewrite all would have
// pods reach others as the node, past whoever tells them by their source.
func postrouting(cfg *Config) *Chain {
	if cfg.Missing&(FeatureMark|FeatureMasquerade) != 0 {
		return &Chain{Name: chainPostrouting}
	}
	mark := cfg.MasqueradeMark
	return &Chain{Name: chainPostrouting, Rules: []Rule{
		Rule{}.to(Return).With(Rare{Mark: MarkMatch{Value: mark, Mask: mark, Not: true}}),
		Rule{}.to(MarkTarget).With(Rare{SetMark: MarkUpdate{Value: mark}}),
		Rule{Comment: "kubernetes service traffic requiring SNAT"}.to(Masquerade).With(Rare{RandomFully: true}),
	}}
}

func dropInvalid() Rule { return Rule{}.to(Drop).With(Rare{State: StateMatch{States: StateInvalid}}) }

// InvalidDropped names the rule that drops INVALID packets, and where it stands, for
// those who want to know how many it met. ok is false if none are dropped.
func InvalidDropped(cfg Config) (table TableName, chain string, rule Rule, ok bool) {
	return Filter, chainForward, dropInvalid(), cfg.DropInvalid
}

// forward is filter KUBE-FORWARD: it lets service traffic through on a node
// whose FORWARD policy is DROP.
func forward(cfg *Config) *Chain {
	c := &Chain{Name: chainForward}
	states := !cfg.Missing.Has(FeatureConntrack)
	if cfg.DropInvalid && states {
		c.Rules = append(c.Rules, dropInvalid())
	}
	if !cfg.Missing.Has(FeatureMark) {
		c.Rules = append(c.Rules, Rule{Comment: "kubernetes forwarding rules"}.to(Accept).
			With(Rare{Mark: MarkMatch{Value: cfg.MasqueradeMark, Mask: cfg.MasqueradeMark}}))
	}
	if states {
		c.Rules = append(c.Rules, Rule{Comment: "kubernetes forwarding conntrack rule"}.to(Accept).
			With(Rare{State: StateMatch{States: StateRelated | StateEstablished}}))
	}
	return c
}

// toNodePorts is what stands last in nat KUBE-SERVICES: a packet to an address of
// the node may be for a node port. The kernel says which addresses are the
// node's, so those that come and go need no other rules. Loopback addresses are
// left out where the kernel would not route the packet on to a pod.
func toNodePorts(cfg *Config, node *Node) []Rule {
	if cfg.Missing.Has(FeatureAddrtype) {
		return toNodePortsByAddress(cfg, node)
	}
	rule := Rule{
		Comment:  "kubernetes service nodeports; NOTE: this must be the last rule in this chain",
		DstLocal: true,
	}.to(chainNodePorts)
	local := loopback(cfg.Family)
	leave := Rule{Comment: "no node ports on loopback addresses", Dst: AddrMatch{Prefix: local}}.to(Return)
	var skip, out []Rule
	for _, r := range nodePortRanges(cfg, node) {
		rule.Dst = AddrMatch{Prefix: r}
		switch {
		case r.Bits() == 0 && cfg.OnLocalhost():
			rule.Dst = AddrMatch{}
		case r.Bits() == 0:
			rule.Dst = AddrMatch{local, true}
		case cfg.OnLocalhost() || !r.Overlaps(local):
		case r.Bits() >= local.Bits():
			continue
		default:
			skip = []Rule{leave}
		}
		out = append(out, rule)
	}
	return append(skip, out...)
}

// nodePortRanges lists the addresses with node ports; only one range if that
// holds all.
func nodePortRanges(cfg *Config, node *Node) []netip.Prefix {
	ranges := slices.Clone(cfg.NodePorts.Ranges)
	if a, ok := node.primary(cfg.Family); ok && cfg.NodePorts.Primary {
		ranges = append(ranges, only(a))
	}
	for i, r := range ranges {
		if r.Bits() == 0 {
			return ranges[i : i+1]
		}
	}
	return ranges
}

// localhostGuard is filter KUBE-FIREWALL: with route_localnet a neighbour of the
// node could reach what listens on its loopback addresses alone (CVE-2020-8558).
// Packets for a node port are let through, they have been rewritten before. The
// rule is kubelet's to the letter.
func localhostGuard() *Chain {
	local := loopback(IPv4)
	drop := Rule{
		Comment: "block incoming localnet connections",
		Src:     AddrMatch{local, true},
		Dst:     AddrMatch{Prefix: local},
		Target:  Target{Name: Drop},
	}
	others := Rare{State: StateMatch{StateRelated | StateEstablished | StateDNAT, true}}
	return &Chain{Name: chainKubeFirewall, Rules: []Rule{drop.With(others)}}
}

// refuseServiceNetwork is what stands last in filter KUBE-SERVICES: a packet that
// still has a cluster IP as its destination is for a port or an address that no
// Service has. It must not leave by the default route (kubernetes#22952). A range
// that overlaps with the pods' is left alone: their traffic must go on.
func refuseServiceNetwork(cfg *Config, cidrs []netip.Prefix) []Rule {
	pods := cfg.PodTraffic.CIDR
	var out []Rule
	for _, c := range cidrs {
		if FamilyOf(c.Addr()) == cfg.Family && !(pods.IsValid() && pods.Overlaps(c)) {
			r := Rule{Comment: "kubernetes service network, no such address or port", Dst: AddrMatch{Prefix: c}}
			out = append(out, r.to(Reject))
		}
	}
	return out
}
