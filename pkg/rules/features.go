package rules

import "net/netip"

// Features is a set of what rules need of the kernel and some kernels lack. Set
// operators combine them; the zero value is the empty set.
type Features uint16

const (
	FeatureComment     Features = 1 << iota // xt_comment
	FeatureConntrack                        // xt_conntrack, the match; not conntrack itself
	FeatureAddrtype                         // xt_addrtype
	FeatureMark                             // xt_mark, match and target
	FeatureStatistic                        // xt_statistic
	FeatureRecent                           // xt_recent
	FeatureSCTP                             // xt_sctp, and DNAT of SCTP
	FeatureReject                           // ipt_REJECT, ip6t_REJECT
	FeatureDNAT                             // xt_nat
	FeatureMasquerade                       // xt_MASQUERADE
	FeatureRandomFully                      // its --random-fully
)

// Has reports whether the set holds all of f.
func (s Features) Has(f Features) bool { return s&f == f }

// FeatureInfo says of a feature what people call it and what its lack means.
type FeatureInfo struct {
	Feature Features
	Name    string
	Without string // what is served otherwise on a kernel without it, and how
}

// Infos lists the features of the set.
func (s Features) Infos() []FeatureInfo {
	var out []FeatureInfo
	for _, i := range []FeatureInfo{
		{FeatureComment, "match comment", "rules bear no comments"},
		{FeatureConntrack, "match conntrack", "INVALID packets are not dropped, replies need a FORWARD policy of ACCEPT, node ports are closed on localhost"},
		{FeatureAddrtype, "match addrtype", "node ports are open on the addresses of the Node object alone"},
		{FeatureMark, "match or target mark", "no source is rewritten: what is to reach an endpoint on another node from outside, or itself, is lost"},
		{FeatureStatistic, "match statistic", "each Service port uses one of its endpoints"},
		{FeatureRecent, "match recent", "session affinity is not kept"},
		{FeatureSCTP, "match sctp", "ports over SCTP are not served"},
		{FeatureReject, "target REJECT", "what would be rejected is dropped"},
		{FeatureDNAT, "target DNAT", "no Service can be served"},
		{FeatureMasquerade, "target MASQUERADE", "no source is rewritten: what is to reach an endpoint on another node from outside, or itself, is lost"},
		{FeatureRandomFully, "MASQUERADE --random-fully", "source ports are chosen in the kernel's usual way"},
	} {
		if s.Has(i.Feature) {
			out = append(out, i)
		}
	}
	return out
}

// Probe is a rule that a kernel takes only if it has a feature. A feature may have
// several.
type Probe struct {
	Feature Features
	Rule    Rule
}

// ProbeChain is the chain for probes, in both tables. Nothing leads to it.
const ProbeChain = prefixService + "PROBE"

// Probes lists the probes of one table: together, every match and target that Build
// uses and a kernel may lack. They are in filter as far as they can be: nat is the
// large table, and the legacy backend copies a table to change it.
func Probes(f Family, t TableName) []Probe {
	dnat := func(p Protocol) Rule {
		return Rule{Protocol: p, Target: Target{Name: DNAT, ToDestination: netip.AddrPortFrom(loopback(f).Addr(), 1)}}
	}
	if t == Nat {
		return []Probe{
			{FeatureDNAT, dnat(TCP)},
			{FeatureSCTP, dnat(SCTP)},
			{FeatureMasquerade, Rule{}.to(Masquerade)},
			{FeatureRandomFully, Rule{}.to(Masquerade).With(Rare{RandomFully: true})},
		}
	}
	returns := Rule{}.to(Return)
	marks := Rare{Mark: MarkMatch{Value: 1, Mask: 1, Not: true}, SetMark: MarkUpdate{1, 1}}
	return []Probe{
		{FeatureComment, Rule{Comment: "probe"}.to(Return)},
		{FeatureConntrack, returns.With(Rare{State: StateMatch{StateRelated | StateEstablished | StateDNAT, true}})},
		{FeatureAddrtype, Rule{SrcLocal: true, DstLocal: true}.to(Return)},
		{FeatureMark, Rule{}.to(MarkTarget).With(marks)},
		{FeatureStatistic, Rule{Statistic: Share(1, 2)}.to(Return)},
		{FeatureRecent, returns.With(Rare{Recent: Recent{Op: RecentSet, List: ProbeChain}})},
		{FeatureRecent, returns.With(Rare{Recent: Recent{Op: RecentCheck, List: ProbeChain, Seconds: 1, Reap: true}})},
		{FeatureSCTP, Rule{Protocol: SCTP, DstPort: Port(1)}.to(Return)},
		{FeatureReject, Rule{}.to(Reject)},
	}
}

// fitRule takes out of a rule what is asked of the kernel and can be done without.
func (c *Config) fitRule(r Rule) Rule {
	if c.Missing.Has(FeatureComment) {
		r.Comment = ""
	}
	if c.Missing.Has(FeatureReject) && r.Target.Name == Reject {
		r = r.to(Drop)
	}
	if c.Missing.Has(FeatureRandomFully) {
		x := r.Rare()
		x.RandomFully = false
		r = r.With(x)
	}
	return r
}

// fit does the same to rules, in place.
func (c *Config) fit(rules []Rule) []Rule {
	if c.Missing != 0 {
		for i := range rules {
			rules[i] = c.fitRule(rules[i])
		}
	}
	return rules
}

// fitChains does the same to chains that are new.
func (c *Config) fitChains(chains []*Chain) []*Chain {
	for _, chain := range chains {
		chain.Rules = c.fit(chain.Rules)
	}
	return chains
}

// fit does the same to all rules of a Service.
func (s *serviceRules) fit(c *Config) *serviceRules {
	for i := range sharedChains {
		c.fit(sharedChains[i].rules(s))
	}
	c.fitChains(s.chains)
	return s
}

// fromNode returns a rule for packets from the node itself. Where the kernel
// cannot tell its own addresses, each one that is known has a rule.
func (p *portRules) fromNode(r Rule) []Rule {
	if !p.cfg.Missing.Has(FeatureAddrtype) {
		r.SrcLocal = true
		return []Rule{r}
	}
	return p.eachNodeAddress(func(a AddrMatch) Rule { r.Src = a; return r })
}

// toNode does the same for packets to the node itself.
func (p *portRules) toNode(r Rule) []Rule {
	if !p.cfg.Missing.Has(FeatureAddrtype) {
		r.DstLocal = true
		return []Rule{r}
	}
	return p.eachNodeAddress(func(a AddrMatch) Rule { r.Dst = a; return r })
}

func (p *portRules) eachNodeAddress(rule func(AddrMatch) Rule) []Rule {
	var out []Rule
	for _, a := range p.node.addresses(p.cfg.Family) {
		out = append(out, rule(AddrMatch{Prefix: only(a)}))
	}
	return out
}

// affinity is the Service's, as far as the kernel can keep it.
func (p *portRules) affinity() uint32 {
	if p.cfg.Missing.Has(FeatureRecent) {
		return 0
	}
	return p.svc.AffinitySeconds
}

// one is what is left of endpoints where packets cannot be spread: one that does
// not change while it is there, and another one on other nodes.
func (p *portRules) one(eps []Endpoint) []Endpoint {
	if len(eps) < 2 {
		return eps
	}
	best, least := 0, ""
	for i := range eps {
		h := shortHash(p.node.Name + p.id + string(p.port.Protocol) + eps[i].Addr.String())
		if i == 0 || h < least {
			best, least = i, h
		}
	}
	return eps[best : best+1]
}

// toNodePortsByAddress stands in for toNodePorts where the kernel cannot tell its
// own addresses.
func toNodePortsByAddress(cfg *Config, node *Node) []Rule {
	var out []Rule
	lead := func(to AddrMatch) {
		out = append(out, Rule{Comment: "kubernetes service nodeports", Dst: to}.to(chainNodePorts))
	}
	local := loopback(cfg.Family)
	for _, r := range nodePortRanges(cfg, node) {
		for _, a := range node.addresses(cfg.Family) {
			if r.Contains(a) && !local.Contains(a) {
				lead(AddrMatch{Prefix: only(a)})
			}
		}
		if cfg.OnLocalhost() && r.Overlaps(local) {
			if r.Bits() < local.Bits() {
				r = local
			}
			lead(AddrMatch{Prefix: r})
		}
	}
	return out
}

// UnservedPorts lists the service ports of a family that the kernel lacks what to
// serve them with, by their ID.
func UnservedPorts(snap *Snapshot, cfg Config) []string {
	if !cfg.Missing.Has(FeatureSCTP) {
		return nil
	}
	var out []string
	for _, svc := range snap.Services {
		if !svc.in(cfg.Family) {
			continue
		}
		for i := range svc.Ports {
			if p := &svc.Ports[i]; p.Protocol == SCTP {
				out = append(out, svc.ID(p))
			}
		}
	}
	return out
}
