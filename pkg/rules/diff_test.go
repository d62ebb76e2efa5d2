package rules

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// comparison of what damage left with what is wanted.
func comparison(snap *Snapshot, cfg Config, hurt func(want *Ruleset) *Ruleset) *Comparison {
	b := NewBuilder(cfg)
	want := b.Build(snap)
	return b.Compare(hurt(want), want)
}

func TestDiffIsEmptyWhereThereIsNoDrift(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			c := comparison(drawCluster(t, f), drawConfig(t, f), func(want *Ruleset) *Ruleset { return damage(t, want) })
			diff, drift := c.Diff(), FindDrift(c.have, c.want)
			if diff.Empty() != (len(drift) == 0) {
				t.Fatalf("the diff is %+v, the drift %+v", diff, drift)
			}
			chains := map[string]bool{}
			for _, s := range diff.Services {
				for _, d := range s.Chains {
					chains[string(d.Table)+" "+d.Chain] = true
				}
			}
			for _, d := range drift {
				if key := string(d.Table) + " " + d.Chain; !chains[key] {
					t.Fatalf("the diff lacks %s", key)
				}
			}
		})
	})
}

// An edit script makes one list of the other and keeps as many rules as it can.
func TestEditScriptLeadsFromOneListToTheOther(t *testing.T) {
	draw := func(t *rapid.T, name string) []Rule {
		var out []Rule
		for _, n := range rapid.SliceOfN(rapid.Uint16Range(1, 6), 0, 12).Draw(t, name) {
			out = append(out, Rule{DstPort: Port(n)})
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		have, want := draw(t, "have"), draw(t, "want")
		var left, right []Rule
		for _, e := range editScript(have, want) {
			if e.have != len(left) || e.want != len(right) {
				t.Fatalf("a line says that %d and %d are before it: %d and %d are", e.have, e.want, len(left), len(right))
			}
			if e.op != '+' {
				left = append(left, *e.rule)
			}
			if e.op != '-' {
				right = append(right, *e.rule)
			}
		}
		if !slices.Equal(left, have) || !slices.Equal(right, want) {
			t.Fatalf("from %v to %v: the script has %v and %v", have, want, left, right)
		}
	})
}

func TestAMovedRuleIsTheOnlyLineThatDiffers(t *testing.T) {
	var have, want []Rule
	for n := range uint16(50) {
		want = append(want, Rule{DstPort: Port(n + 1)})
	}
	have = append(slices.Clone(want[1:]), want[0])
	changed := slices.DeleteFunc(editScript(have, want), func(e edit) bool { return e.op == ' ' })
	if len(changed) != 2 || *changed[0].rule != want[0] || *changed[1].rule != want[0] {
		t.Errorf("the script changes %d lines", len(changed))
	}
}

// lines lists what a diff shows, each behind its Service and chain.
func lines(d *Diff) []string {
	var out []string
	for _, s := range d.Services {
		for _, c := range s.Chains {
			where := s.Name + "|" + string(c.Kind) + "|"
			if len(c.Hunks) == 0 {
				out = append(out, where+c.Chain)
			}
			for _, h := range c.Hunks {
				for _, l := range h.Lines {
					if l[0] != ' ' {
						out = append(out, where+l)
					}
				}
			}
		}
	}
	return out
}

// A chain, and a line of a chain that many Services share, stands under its Service,
// also where nothing but who leads to it tells.
func TestDiffIsByService(t *testing.T) {
	web, api := clusterService(IPv4, "web", 1, 1, 2), clusterService(IPv4, "api", 2, 3)
	gone := clusterService(IPv4, "gone", 3, 4)
	snap := snapshot(api, web)
	endpoint := func(s *Service, i int) string {
		p := &s.Ports[0]
		return endpointChain(s.ID(p), p.Protocol, p.Endpoints[i].Addr)
	}
	hash := func(s *Service) string { return serviceHash(s.ID(&s.Ports[0]), TCP) }
	for name, c := range map[string]struct {
		had  *Snapshot
		hurt func(*Ruleset)
		want []string
	}{
		"nothing": {snap, func(*Ruleset) {}, nil},
		"an endpoint more, whose chain bears no comment": {
			snapshot(api, clusterService(IPv4, "web", 1, 1, 2, 9)),
			func(r *Ruleset) { withoutComments(r, endpoint(clusterService(IPv4, "web", 1, 9), 0)) },
			[]string{
				"ns/web|chain_stale|--A " + endpoint(clusterService(IPv4, "web", 1, 9), 0) + " -s 10.21.0.10/32 -j KUBE-MARK-MASQ",
				"ns/web|chain_stale|--A " + endpoint(clusterService(IPv4, "web", 1, 9), 0) + " -p tcp -j DNAT --to-destination 10.21.0.10:8080",
				"ns/web|chain_changed|--A KUBE-SVC-" + hash(web) + ` -m comment --comment "ns/web -> 10.21.0.10:8080" -j ` + endpoint(clusterService(IPv4, "web", 1, 9), 0),
				"ns/web|chain_changed|--A KUBE-SVC-" + hash(web) + ` -m comment --comment "ns/web -> 10.21.0.2:8080" -m statistic --mode random --probability 0.3333333333 -j ` + endpoint(web, 0),
				"ns/web|chain_changed|--A KUBE-SVC-" + hash(web) + ` -m comment --comment "ns/web -> 10.21.0.3:8080" -m statistic --mode random --probability 0.5000000000 -j ` + endpoint(web, 1),
				"ns/web|chain_changed|+-A KUBE-SVC-" + hash(web) + ` -m comment --comment "ns/web -> 10.21.0.2:8080" -m statistic --mode random --probability 0.5000000000 -j ` + endpoint(web, 0),
				"ns/web|chain_changed|+-A KUBE-SVC-" + hash(web) + ` -m comment --comment "ns/web -> 10.21.0.3:8080" -j ` + endpoint(web, 1),
			},
		},
		"a Service that is not wanted": {
			snapshot(api, gone, web), func(*Ruleset) {},
			[]string{
				"ns/gone|chain_stale|--A " + endpoint(gone, 0) + ` -s 10.21.0.5/32 -m comment --comment "ns/gone" -j KUBE-MARK-MASQ`,
				"ns/gone|chain_stale|--A " + endpoint(gone, 0) + ` -p tcp -m comment --comment "ns/gone" -j DNAT --to-destination 10.21.0.5:8080`,
				`ns/gone|chain_changed|--A KUBE-SERVICES -d 10.96.0.4/32 -p tcp -m comment --comment "ns/gone cluster IP" -m tcp --dport 80 -j KUBE-SVC-` + hash(gone),
				"ns/gone|chain_stale|--A KUBE-SVC-" + hash(gone) + ` ! -s 10.21.0.0/16 -d 10.96.0.4/32 -p tcp -m comment --comment "ns/gone cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ`,
				"ns/gone|chain_stale|--A KUBE-SVC-" + hash(gone) + ` -m comment --comment "ns/gone -> 10.21.0.5:8080" -j ` + endpoint(gone, 0),
			},
		},
		"a chain of all, and a jump": {
			snap, func(r *Ruleset) { r.Jumps = slices.Delete(r.Jumps, 10, 11); flush(r, Nat, chainMarkMasq) },
			[]string{
				"|chain_changed|+-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
				`|jump_missing|+-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES`,
			},
		},
		"an empty chain that all lead to": {
			snap, func(r *Ruleset) { remove(r, Nat, chainNodePorts) }, []string{"|chain_missing|" + chainNodePorts},
		},
	} {
		t.Run(name, func(t *testing.T) {
			have := Build(c.had, testConfig(IPv4))
			for i := range have.Jumps {
				have.Jumps[i].Position = 1
			}
			c.hurt(have)
			b := NewBuilder(testConfig(IPv4))
			want := b.Build(snap)
			got := lines(b.Compare(have, want).Diff())
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// In a large cluster no rule names a Service, and names of chains and who leads to
// them tell.
func TestDiffIsByServiceWithoutComments(t *testing.T) {
	cfg := testConfig(IPv4)
	cfg.large = 1
	many := func(n int) *Service {
		var eps []int
		for i := range n {
			eps = append(eps, 10+i)
		}
		return clusterService(IPv4, "web", 1, eps...)
	}
	api := clusterService(IPv4, "api", 2, 3)
	c := comparison(snapshot(api, many(12)), cfg, func(*Ruleset) *Ruleset {
		had := Build(snapshot(api, many(13)), cfg)
		for i := range had.Jumps {
			had.Jumps[i].Position = 1
		}
		return had
	})
	got := lines(c.Diff())
	if len(got) < 2+12 || slices.ContainsFunc(got, func(l string) bool { return !strings.HasPrefix(l, "ns/web|") || strings.Contains(l, "comment") }) {
		t.Errorf("not all of these are of ns/web and without comment:\n%s", strings.Join(got, "\n"))
	}
}

// edited puts another chain in the place of one; nil: none.
func edited(r *Ruleset, t TableName, chain string, with func(*Chain) *Chain) {
	table := r.Table(t)
	var out []*Chain
	for _, c := range table.Chains {
		if c.Name == chain {
			c = with(c)
		}
		if c != nil {
			out = append(out, c)
		}
	}
	table.Chains = out
}

func flush(r *Ruleset, t TableName, chain string) {
	edited(r, t, chain, func(*Chain) *Chain { return &Chain{Name: chain} })
}

func remove(r *Ruleset, t TableName, chain string) {
	edited(r, t, chain, func(*Chain) *Chain { return nil })
}

func withoutComments(r *Ruleset, chain string) {
	edited(r, Nat, chain, func(c *Chain) *Chain {
		out := &Chain{Name: chain}
		for _, rule := range c.Rules {
			rule.Comment = ""
			out.Rules = append(out.Rules, rule)
		}
		return out
	})
}

// Where fates are said to be the same no packet to a Service fares otherwise, wherever
// it comes from: the clients that are tried are all kinds that there are.
func TestFatesThatAreTheSameAreTheSameForEveryPacket(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		same, differ := 0, 0
		property := func(t *rapid.T) {
			snap := drawCluster(t, f)
			c := comparison(snap, drawConfig(t, f), func(want *Ruleset) *Ruleset {
				if rapid.Bool().Draw(t, "of another cluster") {
					return Build(withOtherEndpoint(t, snap), drawConfig(t, f))
				}
				return scratch(t, want)
			})
			told := map[string]bool{}
			for _, s := range c.Fates().Differ {
				told[s.Name] = true
			}
			have, want := walkable(c.have), walkable(c.want)
			for range 20 {
				p := drawPacket(t, f, snap)
				svc := addressee(snap, &p)
				if svc == "" {
					continue
				}
				a, err1 := Walk(have, Host{Addresses: snap.Node.Addresses}, p)
				b, err2 := Walk(want, Host{Addresses: snap.Node.Addresses}, p)
				if err1 != nil || err2 != nil {
					continue
				}
				if sameFates(a, b) {
					same++
				} else if differ++; !told[svc] {
					t.Fatalf("nothing is said of %s; packet %+v\nhave %+v\nwant %+v", svc, p, a, b)
				}
			}
		}
		for range sets {
			rapid.Check(t, property)
		}
		if same == 0 || differ == 0 {
			t.Errorf("%d packets fared alike, %d otherwise: the test shows nothing", same, differ)
		}
	})
}

// withOtherEndpoint returns the snapshot with a Service that has one endpoint less.
func withOtherEndpoint(t *rapid.T, snap *Snapshot) *Snapshot {
	out := *snap
	out.Services = slices.Clone(snap.Services)
	for i, svc := range out.Services {
		if rapid.Bool().Draw(t, "changed") {
			other := *svc
			other.Ports = slices.Clone(svc.Ports)
			other.Ports[0].Endpoints = other.Ports[0].Endpoints[min(1, len(other.Ports[0].Endpoints)):]
			out.Services[i] = &other
		}
	}
	return &out
}

// scratch takes rules out of some chains, and puts one into others.
func scratch(t *rapid.T, r *Ruleset) *Ruleset {
	out := &Ruleset{Family: r.Family, Jumps: r.Jumps}
	for _, table := range r.Tables {
		hurt := Table{Name: table.Name}
		for _, c := range table.Chains {
			if len(c.Rules) > 0 && rapid.IntRange(0, 9).Draw(t, c.Name) == 0 {
				at := rapid.IntRange(0, len(c.Rules)-1).Draw(t, "rule")
				c = &Chain{Name: c.Name, Rules: slices.Delete(slices.Clone(c.Rules), at, at+1)}
			}
			hurt.Chains = append(hurt.Chains, c)
		}
		out.Tables = append(out.Tables, hurt)
	}
	return out
}

// walkable returns a ruleset as tables with the built-in chains.
func walkable(r *Ruleset) []Table {
	var out []Table
	for _, t := range Tables() {
		table := Table{Name: t, Chains: slices.Clone(r.Table(t).Chains)}
		for _, name := range []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"} {
			if BuiltIn(t, name) {
				table.Chains = append(table.Chains, &Chain{Name: name, Policy: Accept, Rules: liveJumps(r.Jumps, t, name)})
			}
		}
		table.sort()
		out = append(out, table)
	}
	return out
}

// addressee is the Service that a packet is for, on any of its addresses and ports.
func addressee(snap *Snapshot, p *Packet) string {
	for _, svc := range snap.Services {
		for i := range svc.Ports {
			port := &svc.Ports[i]
			addrs := slices.Concat(svc.ClusterIPs, svc.ExternalIPs, svc.LoadBalancerIPs)
			to := p.Dst.Port() == port.Port && slices.Contains(addrs, p.Dst.Addr()) && len(port.Taken) == 0
			node := p.Dst.Port() == port.NodePort && port.NodePort != 0 && slices.Contains(snap.Node.Addresses, p.Dst.Addr())
			if port.Protocol == p.Protocol && (to || node) {
				return svc.Namespace + "/" + svc.Name
			}
		}
	}
	return ""
}

func TestFatesOfWhatOnlyTheKernelServes(t *testing.T) {
	web, gone := clusterService(IPv4, "web", 1, 1), clusterService(IPv4, "gone", 3, 4)
	had := Build(snapshot(gone, web), testConfig(IPv4))
	c := comparison(snapshot(web), testConfig(IPv4), func(*Ruleset) *Ruleset { return had })
	fates := c.Fates()
	if fates.Services != 1 || len(fates.Differ) != 1 || fates.Differ[0].Name != "ns/gone" || fates.Differ[0].Wanted {
		t.Fatalf("%+v", fates)
	}
	for _, p := range fates.Differ[0].Packets {
		if p.To != netip.MustParseAddrPort("10.96.0.4:80") || p.Have[0].Dst != netip.MustParseAddrPort("10.21.0.5:8080") || p.Want[0].Dst != p.To {
			t.Errorf("%+v", p)
		}
	}
}

func TestReadOwnWantsWholeTables(t *testing.T) {
	for text, want := range map[string]string{
		"": "there is no table", "*nat\n:A - [0:0]\n": "table nat has no end", "*nat\nCOMMIT\n*filter\n": "table filter has no end",
		"*nat\n:A - [0:0]\n:B\n": "line 3",
	} {
		if _, err := ReadOwn([]byte(text), IPv4); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
	own, err := ReadOwn([]byte("# Table `nat' is incompatible, use 'nft' tool.\n*filter\n[7:8] -A INPUT -j KUBE-SERVICES\nCOMMIT\n"), IPv4)
	if err != nil || len(own.Jumps) != 1 || !slices.Equal(own.Unreadable, []TableName{Nat}) {
		t.Errorf("%+v, error %v", own, err)
	}
}
