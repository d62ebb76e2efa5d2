package rules

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const allFeatures = FeatureRandomFully<<1 - 1

// needs returns the features that a rule needs.
func needs(r *Rule) Features {
	var out Features
	x := r.Rare()
	add := func(f Features, needed bool) {
		if needed {
			out |= f
		}
	}
	add(FeatureComment, r.Comment != "")
	add(FeatureConntrack, x.State.States != 0)
	add(FeatureAddrtype, r.SrcLocal || r.DstLocal)
	add(FeatureMark, x.Mark.Mask != 0 || r.Target.Name == MarkTarget)
	add(FeatureStatistic, r.Statistic != 0)
	add(FeatureRecent, x.Recent.Op != RecentNone)
	add(FeatureSCTP, r.Protocol == SCTP)
	add(FeatureReject, r.Target.Name == Reject)
	add(FeatureDNAT, r.Target.Name == DNAT && r.Protocol != SCTP)
	add(FeatureMasquerade, r.Target.Name == Masquerade && !x.RandomFully)
	add(FeatureRandomFully, x.RandomFully)
	return out
}

// Whatever a kernel lacks, no rule needs it, chains hang together, and packets that
// have nothing to do with it fare as before, or are dropped where they would be
// rejected. A Service that spreads no more uses one of its endpoints.
func TestRulesDoWithoutWhatIsMissing(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			snap, cfg := drawCluster(t, f), drawConfig(t, f)
			full, err := ParseSave(RenderPlan(NewPlan(&Ruleset{}, Build(snap, cfg), 0)), f)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Missing = Features(rapid.IntRange(0, int(allFeatures)).Draw(t, "missing")) &^ FeatureDNAT
			fixed, r := Build(snapshot(), cfg), Build(snap, cfg)
			for _, table := range r.Tables {
				checkTable(t, &table, r.Jumps, fixed.Table(table.Name))
				for _, c := range table.Chains {
					for i := range c.Rules {
						checkNeeds(t, &c.Rules[i], cfg.Missing)
					}
				}
			}
			for i := range r.Jumps {
				checkNeeds(t, &r.Jumps[i].Rule, cfg.Missing)
			}
			tables, err := ParseSave(RenderPlan(NewPlan(&Ruleset{}, r, 0)), f)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				p := drawPacket(t, f, snap)
				if cfg.Missing.Has(FeatureSCTP) && p.Protocol == SCTP || p.Src.Addr().IsLoopback() || p.Dst.Addr().IsLoopback() {
					continue
				}
				checkFates(t, cfg.Missing, p, fatesOn(t, snap, full, p), fatesOn(t, snap, tables, p))
			}
		})
	})
}

func checkNeeds(t *rapid.T, r *Rule, missing Features) {
	if bad := needs(r) & missing; bad != 0 {
		t.Fatalf("missing %+v, and there is the rule %s", bad.Infos(), r)
	}
}

func fatesOn(t *rapid.T, snap *Snapshot, tables []Table, p Packet) []Fate {
	fates, err := Walk(tables, Host{Addresses: snap.Node.Addresses}, p)
	if err != nil {
		t.Fatal(err)
	}
	return fates
}

// checkFates compares fates but for masquerading and shares.
func checkFates(t *rapid.T, missing Features, p Packet, full, got []Fate) {
	key := func(fate Fate) string {
		if missing.Has(FeatureReject) {
			fate.Verdict = strings.Replace(fate.Verdict, Reject, Drop, 1)
		}
		return fate.Verdict + " " + fate.Dst.String()
	}
	allowed := map[string]bool{}
	for _, fate := range full {
		allowed[key(fate)] = true
	}
	for _, fate := range got {
		if !allowed[key(fate)] {
			t.Fatalf("missing %+v: packet %+v\ngot  %+v\nfull %+v", missing.Infos(), p, got, full)
		}
	}
	if missing.Has(FeatureStatistic) && len(got) != 1 || !missing.Has(FeatureStatistic) && len(got) != len(full) {
		t.Fatalf("missing %+v: packet %+v\ngot  %+v\nfull %+v", missing.Infos(), p, got, full)
	}
}

// There is a probe for every feature that a rule can need.
func TestEachProbeNeedsItsFeatureAlone(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		var probed Features
		for _, table := range Tables() {
			for _, p := range Probes(f, table) {
				if got := needs(&p.Rule); got != p.Feature {
					t.Errorf("the probe %s needs %+v, not %+v", p.Rule, got.Infos(), p.Feature.Infos())
				}
				probed |= p.Feature
			}
		}
		if probed != allFeatures || len(allFeatures.Infos()) != 11 {
			t.Errorf("probed: %+v", probed.Infos())
		}
	})
}

// A node port of which nobody can say on which addresses it is open is closed; those
// of the Node object are known.
func TestNodePortsWithoutAddrtype(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		cfg := testConfig(f)
		cfg.Missing = FeatureAddrtype
		svc := clusterService(f, "web", 1, 1)
		svc.Ports[0].NodePort = 30080
		snap := snapshot(svc)
		snap.Node.Addresses = []netip.Addr{nodeAddr(f, 0)}
		tables := loaded(t, Build(snap, cfg))
		for to, served := range map[netip.Addr]bool{nodeAddr(f, 0): true, outsideAddr(f): false, localhost(f): f == IPv4} {
			p := Packet{FromNode: true, Protocol: TCP, Src: netip.AddrPortFrom(to, 4000), Dst: netip.AddrPortFrom(to, 30080)}
			fates := walk(t, tables, p)
			if got := fates[0].Dst == svc.Ports[0].Endpoints[0].Addr; got != served {
				t.Errorf("node port on %s served: %v", to, got)
			}
		}
	})
}

// Without spreading, nodes use different endpoints, and one that is gone moves
// nobody else's.
func TestTheOneEndpointIsStable(t *testing.T) {
	cfg := testConfig(IPv4)
	cfg.Missing = FeatureStatistic
	uses := map[netip.AddrPort]int{}
	for n := range 40 {
		node := string(rune('a' + n))
		used := func(eps ...int) netip.AddrPort {
			snap := snapshot(clusterService(IPv4, "web", 1, eps...))
			snap.Node.Name = node
			fates := walk(t, loaded(t, Build(snap, cfg)), toService(IPv4, 1, TCP, 80))
			if len(fates) != 1 {
				t.Fatalf("fates %+v", fates)
			}
			return fates[0].Dst
		}
		all := used(1, 2, 3, 4)
		uses[all]++
		for _, left := range [][]int{{2, 3, 4}, {1, 3, 4}, {1, 2, 4}, {1, 2, 3}} {
			there := slices.ContainsFunc(left, func(i int) bool { return podAddr(IPv4, i) == all.Addr() })
			if got := used(left...); there && got != all {
				t.Errorf("node %s: %s before, %s after another one went", node, all, got)
			}
		}
	}
	if len(uses) != 4 {
		t.Errorf("40 nodes use %v", uses)
	}
}

func TestPortsThatCannotBeServed(t *testing.T) {
	svc := clusterService(IPv4, "web", 1, 1)
	svc.Ports = append(svc.Ports, ServicePort{Name: "signal", Protocol: SCTP, Port: 81})
	snap := snapshot(svc)
	cfg := testConfig(IPv4)
	if got := UnservedPorts(snap, cfg); got != nil {
		t.Errorf("nothing is missing: %v", got)
	}
	cfg.Missing = FeatureSCTP
	if got := UnservedPorts(snap, cfg); !slices.Equal(got, []string{"ns/web:signal"}) {
		t.Errorf("got %v", got)
	}
	cfg.Family = IPv6
	if got := UnservedPorts(snap, cfg); got != nil {
		t.Errorf("the Service is not in IPv6: %v", got)
	}
}
