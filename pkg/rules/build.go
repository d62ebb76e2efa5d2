package rules

import (
	"cmp"
	"reflect"
	"slices"
)

// Build returns the ruleset that serves a snapshot. It is a pure function of its
// arguments; whoever builds again and again keeps a Builder.
func Build(snap *Snapshot, cfg Config) *Ruleset {
	return NewBuilder(cfg).Build(snap)
}

// Builder builds rulesets of one family and remembers what it made of each
// Service, so that a Service which did not change costs a comparison of pointers
// and keeps its chains' pointers.
type Builder struct {
	asked Config
	cfg   Config // as asked, with what depends on the node filled in
	node  Node
	snap  *Snapshot       // of the last build; nil: none, or all is to be built anew
	parts []*serviceRules // of its Services

	nat, filter chainList
	shared      [][]*Chain // what was made of each of sharedChains
	noLocal     noLocal
	endpoints   int
}

// NewBuilder returns a Builder that has built nothing yet.
func NewBuilder(cfg Config) *Builder {
	return &Builder{asked: cfg}
}

// shared is a chain that holds rules of all Services, in a long list or a tree.
type shared struct {
	table  TableName
	root   string
	prefix string // of the chains it is divided into
	rules  func(*serviceRules) []Rule
	tail   func(*Builder, *Snapshot) []Rule // what stands behind; nil: nothing
}

var sharedChains = []shared{
	{Nat, chainServices, treeByIP, func(s *serviceRules) []Rule { return s.natServices },
		func(b *Builder, _ *Snapshot) []Rule { return toNodePorts(&b.cfg, &b.node) }},
	{Nat, chainNodePorts, treeByNodePort, func(s *serviceRules) []Rule { return s.natNodePorts }, nil},
	{Filter, chainServices, treeServices, func(s *serviceRules) []Rule { return s.filterServices },
		func(b *Builder, snap *Snapshot) []Rule { return refuseServiceNetwork(&b.cfg, snap.ServiceCIDRs) }},
	{Filter, chainExternalServices, treeExternal, func(s *serviceRules) []Rule { return s.externalServices }, nil},
	{Filter, chainProxyFirewall, treeFirewall, func(s *serviceRules) []Rule { return s.proxyFirewall }, nil},
	{Filter, chainNodePorts, treeNodePorts, func(s *serviceRules) []Rule { return s.filterNodePorts }, nil},
}

// largeCluster is the number of endpoints up to which rules say all they can; see
// detail. Each change of a legacy table copies it, and there a comment takes more
// room than the rest of its rule.
const largeCluster = 1000

// detail is how much rules say of what they are for.
type detail int

const (
	// wordy: a comment in each rule.
	wordy detail = iota
	// terse: none behind KUBE-SERVICES, as in kube-proxy, and no match that is met
	// anyhow. For more than largeCluster endpoints.
	terse
	// nameless: the rules for cluster IPs do not say which Service is meant either.
	// For more than ten times as many.
	nameless
)

func detailFor(endpoints, large int) detail {
	switch {
	case endpoints > 10*large:
		return nameless
	case endpoints > large:
		return terse
	}
	return wordy
}

// Build returns the ruleset for the snapshot.
func (b *Builder) Build(snap *Snapshot) *Ruleset {
	endpoints := snap.endpoints(b.asked.Family)
	detail := detailFor(endpoints, cmp.Or(b.asked.large, largeCluster))
	node := snap.Node.asForRules()
	anew := b.snap == nil || detail != b.cfg.detail || !reflect.DeepEqual(b.node, node)
	if anew {
		b.start(node, detail)
	}
	b.endpoints = endpoints
	gone, come := b.services(snap)
	b.noLocal.replace(gone, come)
	b.nat.replace(chainsOf(gone), chainsOf(come))
	for i := range sharedChains {
		c := &sharedChains[i]
		if anew || differ(c, gone, come) || c.tail != nil && !slices.Equal(b.snap.ServiceCIDRs, snap.ServiceCIDRs) {
			b.share(i, snap)
		}
	}
	b.snap = snap
	return &Ruleset{
		Family: b.cfg.Family,
		Tables: []Table{{Filter, b.filter.sorted}, {Nat, b.nat.sorted}},
		Jumps:  scaffoldJumps(&b.cfg),
	}
}

// start forgets all Services: what is made of them depends on the node, and on
// how many there are.
func (b *Builder) start(node Node, detail detail) {
	*b = Builder{asked: b.asked, cfg: b.asked, node: node, shared: make([][]*Chain, len(sharedChains))}
	b.cfg.detail = detail
	b.cfg.PodTraffic = b.asked.PodTraffic.on(&b.node, b.asked.Family)
	b.nat.replace(nil, b.cfg.fitChains([]*Chain{markMasq(&b.cfg), postrouting(&b.cfg)}))
	b.filter.replace(nil, b.cfg.fitChains([]*Chain{forward(&b.cfg)}))
	if b.cfg.OnLocalhost() {
		b.filter.replace(nil, b.cfg.fitChains([]*Chain{localhostGuard()}))
	}
}

// services brings the parts up to date and returns those that went and came.
func (b *Builder) services(snap *Snapshot) (gone, come []*serviceRules) {
	var old []*Service
	if b.snap != nil {
		old = b.snap.Services
	}
	parts := make([]*serviceRules, 0, len(snap.Services))
	eachChange(old, snap.Services, func(i int) {
		gone = append(gone, b.parts[i])
	}, func(i int) {
		made := buildService(snap.Services[i], &b.node, &b.cfg)
		parts, come = append(parts, made), append(come, made)
	}, func(i int) {
		parts = append(parts, b.parts[i])
	})
	b.parts = parts
	return gone, come
}

// differ reports whether what went and what came have other rules for a shared
// chain. A Service whose endpoints changed has none.
func differ(c *shared, gone, come []*serviceRules) bool {
	return !slices.Equal(collect(gone, c.rules), collect(come, c.rules))
}

// share makes a shared chain, or the tree in its place, anew.
func (b *Builder) share(i int, snap *Snapshot) {
	c := &sharedChains[i]
	var tail []Rule
	if c.tail != nil {
		tail = b.cfg.fit(c.tail(b, snap))
	}
	made := dispatch(&b.cfg, c.root, c.prefix, collect(b.parts, c.rules), tail)
	list := &b.nat
	if c.table == Filter {
		list = &b.filter
	}
	list.replace(b.shared[i], made)
	b.shared[i] = made
}

func collect(parts []*serviceRules, rules func(*serviceRules) []Rule) []Rule {
	var out []Rule
	for _, p := range parts {
		out = append(out, rules(p)...)
	}
	return out
}

func chainsOf(parts []*serviceRules) []*Chain {
	var out []*Chain
	for _, p := range parts {
		out = append(out, p.chains...)
	}
	return out
}

// chainList is the chains of a table, sorted by name. Rulesets hold its slice, so
// that is never written into.
type chainList struct {
	sorted []*Chain
	rules  int // of all chains
}

// replace takes chains out and puts others in.
func (l *chainList) replace(gone, come []*Chain) {
	if len(gone) == 0 && len(come) == 0 {
		return
	}
	goes := make(map[*Chain]bool, len(gone))
	for _, c := range gone {
		goes[c] = true
	}
	l.rules += countRules(come) - countRules(gone)
	come = slices.Clone(come)
	slices.SortFunc(come, compareChains)
	out := make([]*Chain, 0, len(l.sorted)+len(come)-len(gone))
	for _, c := range l.sorted {
		for len(come) > 0 && compareChains(come[0], c) < 0 {
			out, come = append(out, come[0]), come[1:]
		}
		if !goes[c] {
			out = append(out, c)
		}
	}
	l.sorted = append(out, come...)
}
