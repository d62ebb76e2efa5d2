package rules

import "reflect"

// Build returns the ruleset that serves a snapshot. It is a pure function of its
// arguments; whoever builds again and again keeps a Builder.
func Build(snap *Snapshot, cfg Config) *Ruleset {
	return NewBuilder(cfg).Build(snap)
}

// Builder builds rulesets of one family and remembers what it made of each
// Service, so that a Service which did not change costs a map look-up and keeps
// its chains' pointers.
type Builder struct {
	asked Config
	cfg   Config // as asked, with what depends on the node filled in
	node  Node
	made  map[*Service]*serviceRules
}

// NewBuilder returns a Builder that has built nothing yet.
func NewBuilder(cfg Config) *Builder {
	return &Builder{asked: cfg}
}

// Build returns the ruleset for the snapshot.
func (b *Builder) Build(snap *Snapshot) *Ruleset {
	parts := b.services(snap)
	nat := Table{Name: Nat}
	nat.Chains = append(nat.Chains, markMasq(&b.cfg), postrouting(&b.cfg))
	for _, p := range parts {
		nat.Chains = append(nat.Chains, p.chains...)
	}
	nat.Chains = append(nat.Chains, dispatch(chainServices,
		collect(parts, func(s *serviceRules) []Rule { return s.natServices }),
		toNodePorts(&b.cfg, &b.node))...)
	nat.Chains = append(nat.Chains, &Chain{Name: chainNodePorts,
		Rules: collect(parts, func(s *serviceRules) []Rule { return s.natNodePorts })})

	filter := Table{Name: Filter}
	filter.Chains = append(filter.Chains, forward(&b.cfg))
	filter.Chains = append(filter.Chains, dispatch(chainServices,
		collect(parts, func(s *serviceRules) []Rule { return s.filterServices }),
		refuseServiceNetwork(&b.cfg, snap.ServiceCIDRs))...)
	filter.Chains = append(filter.Chains, dispatch(chainExternalServices,
		collect(parts, func(s *serviceRules) []Rule { return s.externalServices }), nil)...)
	filter.Chains = append(filter.Chains, dispatch(chainProxyFirewall,
		collect(parts, func(s *serviceRules) []Rule { return s.proxyFirewall }), nil)...)
	filter.Chains = append(filter.Chains, &Chain{Name: chainNodePorts,
		Rules: collect(parts, func(s *serviceRules) []Rule { return s.filterNodePorts })})

	if b.cfg.OnLocalhost() {
		filter.Chains = append(filter.Chains, localhostGuard())
	}
	filter.sort()
	nat.sort()
	return &Ruleset{Family: b.cfg.Family, Tables: []Table{filter, nat}, Jumps: scaffoldJumps(&b.cfg)}
}

// services returns what each Service adds, in the snapshot's order.
func (b *Builder) services(snap *Snapshot) []*serviceRules {
	old := b.made
	if old == nil || !reflect.DeepEqual(b.node, snap.Node) {
		old, b.node, b.cfg = nil, snap.Node, b.asked
		b.cfg.PodTraffic = b.asked.PodTraffic.on(&b.node, b.asked.Family)
	}
	b.made = make(map[*Service]*serviceRules, len(snap.Services))
	parts := make([]*serviceRules, len(snap.Services))
	for i, svc := range snap.Services {
		made := old[svc]
		if made == nil {
			made = buildService(svc, &b.node, &b.cfg)
		}
		b.made[svc], parts[i] = made, made
	}
	return parts
}

func collect(parts []*serviceRules, rules func(*serviceRules) []Rule) []Rule {
	var out []Rule
	for _, p := range parts {
		out = append(out, rules(p)...)
	}
	return out
}
