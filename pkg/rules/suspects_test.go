package rules

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Each line of a plan that belongs to a Service names it, and those of the scaffold
// name nobody.
func TestLinesNameTheirService(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			snap, cfg := drawCluster(t, f), drawConfig(t, f)
			if rapid.Bool().Draw(t, "no comments") {
				cfg.Missing = FeatureComment
			}
			b := NewBuilder(cfg)
			plan := NewPlan(&Ruleset{Family: f}, b.Build(snap), 0)
			for i := range plan.Transactions {
				tx := &plan.Transactions[i]
				for line := range strings.Lines(string(RenderTransaction(f, tx))) {
					line = strings.TrimSpace(line)
					got, exact := b.Suspects(&Ruleset{}, tx, []string{line})
					if isRule := strings.HasPrefix(line, "-") && line[1] != 'X' || strings.HasPrefix(line, ":"); exact != isRule {
						t.Fatalf("%s: exact %v", line, exact)
					}
					if !exact {
						continue
					}
					for _, svc := range got {
						if line[0] == ':' {
							continue
						}
						if id := svc.PortIn(line); !strings.HasPrefix(id, svc.Namespace+"/"+svc.Name) {
							t.Fatalf("%s: port %s of %s", line, id, svc.Name)
						}
					}
					// The comment of a rule says whose it is.
					for _, svc := range snap.Services {
						if strings.Contains(line, `"ns/`+svc.Name+":") && !slices.Contains(got, svc) {
							t.Fatalf("%s: is not taken for a rule of %s", line, svc.Name)
						}
					}
				}
			}
		})
	})
}

// Without a line, suspects are those whose rules are new; a rule that only moves to
// another chain, as the list of Services is divided otherwise, was there before.
func TestSuspectsAreThoseWithNewRules(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		b := NewBuilder(testConfig(f))
		var svcs []*Service
		for i := range 16 {
			svcs = append(svcs, clusterService(f, string(rune('a'+i)), i+1, i+1))
		}
		have := b.Build(snapshot(slices.Clone(svcs)...))
		changed := clusterService(f, "c", 3, 3, 99)
		svcs[2] = changed
		added := clusterService(f, "q", 30, 30) // the seventeenth: the list becomes a tree
		plan := NewPlan(have, b.Build(snapshot(append(svcs, added)...)), 0)
		for i := range plan.Transactions {
			got, exact := b.Suspects(have, &plan.Transactions[i], []string{"COMMIT"})
			if exact || !slices.Equal(got, []*Service{changed, added}) {
				t.Errorf("exact %v: %d suspects", exact, len(got))
			}
		}
		if len(plan.Transactions) != 1 {
			t.Errorf("%d transactions, want one", len(plan.Transactions))
		}
	})
}

func TestPortIn(t *testing.T) {
	svc := clusterService(IPv4, "web", 1, 1, 2)
	svc.Ports[0].Name = "http"
	svc.Ports = append(svc.Ports, ServicePort{Name: "dns", Protocol: UDP, Port: 53})
	for line, want := range map[string]string{
		"-A KUBE-SVC-" + serviceHash("ns/web:http", TCP) + " -j RETURN":                                                "ns/web:http",
		"-A " + endpointChain("ns/web:http", TCP, svc.Ports[0].Endpoints[1].Addr) + " -j RETURN":                       "ns/web:http",
		`-A KUBE-SERVICES -d 10.96.0.2/32 -p udp -m comment --comment "ns/web:dns has no endpoints" -j REJECT`:         "ns/web:dns",
		`-A KUBE-NODEPORTS -p tcp -m comment --comment "ns/web:dns" -m udp --dport 30053 -j KUBE-EXT-AAAAAAAAAAAAAAAA`: "ns/web:dns",
		"COMMIT": "ns/web",
	} {
		if got := svc.PortIn(line); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

// A plan that stops anywhere has left what After says, and one without deletions
// ends where packets fare as with them.
func TestAPlanIsKnownToStopWhereItDoes(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			cfg := testConfig(f)
			from, to := Build(drawSnapshot(t, f, "old"), cfg), Build(drawSnapshot(t, f, "new"), cfg)
			plan := NewPlan(from, to, rapid.IntRange(0, 3).Draw(t, "chains a transaction"))
			if rapid.Bool().Draw(t, "without deletes") {
				plan = plan.WithoutDeletes()
			}
			have := from
			for i := range plan.Transactions {
				if got := plan.After(from, i); !NewPlan(got, have, 0).Empty() || !NewPlan(have, got, 0).Empty() {
					t.Fatalf("after %d transactions there is something else", i)
				}
				have = apply(t, have, &plan.Transactions[i])
			}
			rest := NewPlan(plan.After(from, len(plan.Transactions)), to, 0)
			for _, tx := range rest.Transactions {
				if len(tx.Write) > 0 {
					t.Fatalf("after the plan this is missing:\n%s", RenderPlan(rest))
				}
			}
		})
	})
}

func TestAsBefore(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		before := clusterService(f, "web", 1, 1, 2)
		now := clusterService(f, "web", 1, 2, 3)
		now.AffinitySeconds, now.ExternalTrafficLocal = 600, true
		now.Ports[0].Endpoints[0].Ready = false
		got := AsBefore(before, now)
		want := clusterService(f, "web", 1, 2)
		want.Ports[0].Endpoints[0].Ready = false
		if got == nil || !slices.Equal(endpointAddrs(got), endpointAddrs(want)) || got.Ports[0].Endpoints[0].Ready || got.AffinitySeconds != 0 || got.ExternalTrafficLocal {
			t.Errorf("got %+v", got)
		}
		if len(before.Ports[0].Endpoints) != 2 || len(now.Ports[0].Endpoints) != 2 {
			t.Error("the arguments were changed")
		}
		for name, change := range map[string]func(*Service){
			"cluster IP":    func(s *Service) { s.ClusterIPs[0] = vipAddr(f, 7) },
			"external IP":   func(s *Service) { s.ExternalIPs = append(s.ExternalIPs, outsideAddr(f)) },
			"port":          func(s *Service) { s.Ports[0].Port = 81 },
			"node port":     func(s *Service) { s.Ports[0].NodePort = 30080 },
			"taken":         func(s *Service) { s.Ports[0].Taken = []Claim{{ClusterIP, vipAddr(f, 1)}} },
			"source ranges": func(s *Service) { s.RestrictSources = true },
			"fewer ports":   func(s *Service) { s.Ports = nil },
		} {
			other := clusterService(f, "web", 1, 1, 2)
			change(other)
			if AsBefore(before, other) != nil {
				t.Errorf("another %s, and it is served as before", name)
			}
		}
		for _, fate := range walk(t, loaded(t, Build(snapshot(WithoutEndpoints(now)), testConfig(f))), toService(f, 1, TCP, 80)) {
			if fate.Verdict != Reject {
				t.Errorf("refusing: %+v", fate)
			}
		}
	})
}

func endpointAddrs(s *Service) []string {
	var out []string
	for _, e := range s.Ports[0].Endpoints {
		out = append(out, e.Addr.String())
	}
	return out
}
