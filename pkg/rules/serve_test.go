package rules

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What Serve says of a Service is what stands in its rules: which address leads to
// which chain, whom filter refuses, and which endpoints a chain spreads over.
func TestServeSaysWhatTheRulesDo(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		property := func(t *rapid.T) {
			snap, cfg := drawCluster(t, f), drawConfig(t, f)
			cfg.leaf, cfg.large = 1000, 0 // lists, with comments
			built := Build(snap, cfg)
			for _, svc := range snap.Services {
				for _, s := range Serve(svc, &snap.Node, &cfg) {
					checkServed(t, svc, &s, built)
				}
			}
		}
		rapid.Check(t, property)
	})
}

func checkServed(t *rapid.T, svc *Service, s *Served, built *Ruleset) {
	nat := built.Table(Nat)
	chains := map[string]bool{}
	for _, e := range s.Entries {
		if got := led(nat, s, e); got != e.Chain {
			t.Fatalf("%s: %+v: the rules lead to %q", svc.ID(s.Port), e, got)
		}
		if got := filterRefuses(built.Table(Filter), s, e); got != (e.Refused != RefusedNone) {
			t.Fatalf("%s: %+v: the filter table refuses: %v", svc.ID(s.Port), e, got)
		}
	}
	for _, b := range s.Balances {
		chains[b.Chain] = true
		c := nat.Chain(b.Chain)
		if c == nil {
			t.Fatalf("%s: no chain %s", svc.ID(s.Port), b.Chain)
		}
		var want []string
		for _, ep := range b.Endpoints {
			want = append(want, s.EndpointChain(ep))
		}
		var got []string
		for i := range c.Rules {
			if to := c.Rules[i].Jump(); strings.HasPrefix(to, prefixEndpoint) && c.Rules[i].Rare().Recent.Op == RecentNone {
				got = append(got, to)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: %s leads to %v, want %v", svc.ID(s.Port), b.Chain, got, want)
		}
	}
	for _, prefix := range []string{prefixService, prefixLocal} {
		if name := prefix + serviceHash(svc.ID(s.Port), s.Port.Protocol); nat.Chain(name) != nil && !chains[name] {
			t.Fatalf("%s: nothing is said of %s", svc.ID(s.Port), name)
		}
	}
}

// led returns where nat leads packets to an entry; empty: nowhere.
func led(nat *Table, s *Served, e Entry) string {
	list := chainServices
	if e.Role == NodePort {
		list = chainNodePorts
	}
	c := nat.Chain(list)
	for i := range c.Rules {
		if entryRule(&c.Rules[i], s, e) {
			return c.Rules[i].Jump()
		}
	}
	return ""
}

func entryRule(r *Rule, s *Served, e Entry) bool {
	if r.Protocol != s.Port.Protocol || r.DstPort != Port(e.Port) {
		return false
	}
	if e.Role == NodePort {
		return r.Dst == AddrMatch{}
	}
	return r.Dst == AddrMatch{Prefix: netip.PrefixFrom(e.Addr, e.Addr.BitLen())}
}

// filterRefuses reports whether a rule of filter refuses packets to the entry whoever sends
// them, or those that come from outside.
func filterRefuses(filter *Table, s *Served, e Entry) bool {
	for _, name := range []string{chainServices, chainExternalServices, chainProxyFirewall} {
		c := filter.Chain(name)
		for i := 0; c != nil && i < len(c.Rules); i++ {
			r := &c.Rules[i]
			if entryRule(r, s, e) && (name != chainProxyFirewall || strings.Contains(r.Comment, "has no source range")) {
				return true
			}
		}
	}
	return false
}

func TestChanged(t *testing.T) {
	a, b, b2, c, d := clusterService(IPv4, "a", 1), clusterService(IPv4, "b", 2), clusterService(IPv4, "b", 2), clusterService(IPv4, "c", 3), clusterService(IPv4, "d", 4)
	come, gone := Changed([]*Service{a, b, c}, []*Service{a, b2, d})
	if !slices.Equal(come, []*Service{b2, d}) || !slices.Equal(gone, []*Service{c}) {
		t.Errorf("come %v, gone %v", come, gone)
	}
}
