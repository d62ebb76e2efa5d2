package rules

import (
	"testing"

	"pgregory.net/rapid"
)

// counted looks at everything, as a Builder that keeps count never does.
func counted(b *Builder, snap *Snapshot) Counts {
	r := b.Build(snap)
	return Counts{
		FilterRules: countRules(r.Table(Filter).Chains), NatRules: countRules(r.Table(Nat).Chains),
		Endpoints: snap.endpoints(b.asked.Family),
	}
}

func TestCountsFollowAnyChange(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			cfg := drawConfig(t, f)
			b := NewBuilder(cfg)
			for range rapid.IntRange(1, 5).Draw(t, "changes") {
				snap := drawCluster(t, f)
				want := counted(b, snap)
				anew := NewBuilder(cfg)
				anew.Build(snap)
				want.NoLocalInternal, want.NoLocalExternal = anew.Counts().NoLocalInternal, anew.Counts().NoLocalExternal
				if got := b.Counts(); got != want {
					t.Fatalf("counts are %+v, want %+v", got, want)
				}
			}
		})
	})
}

func TestPortsWithoutLocalEndpointsAreCounted(t *testing.T) {
	local := func(s *Service) *Service {
		s.InternalTrafficLocal, s.ExternalTrafficLocal, s.Ports[0].NodePort = true, true, 30080
		return s
	}
	eachFamily(t, func(t *testing.T, f Family) {
		elsewhere, nowhere, here := local(clusterService(f, "a", 1, 1)), local(clusterService(f, "b", 2)), local(clusterService(f, "c", 3, 2))
		elsewhere.Ports = append(elsewhere.Ports, elsewhere.Ports[0])
		elsewhere.Ports[1].Name, elsewhere.Ports[1].Port, elsewhere.Ports[1].NodePort = "second", 81, 0
		nowhere.Ports[0].NodePort = 30081
		here.Ports[0].Endpoints[0].NodeName, here.Ports[0].NodePort = "here", 30082
		b := NewBuilder(testConfig(f))
		b.Build(snapshot(elsewhere, nowhere, here, clusterService(f, "d", 4, 3)))
		if c := b.Counts(); c.NoLocalInternal != 2 || c.NoLocalExternal != 1 {
			t.Errorf("%d and %d ports without local endpoints, want those of ns/a: 2 and 1", c.NoLocalInternal, c.NoLocalExternal)
		}
		b.Build(snapshot(nowhere))
		if c := b.Counts(); c.NoLocalInternal+c.NoLocalExternal != 0 {
			t.Errorf("without ns/a %+v", c)
		}
	})
}

// A Node that is leaving changes its health and no rule.
func TestALeavingNodeCostsNothing(t *testing.T) {
	snap := snapshot(clusterService(IPv4, "a", 1, 1))
	b := NewBuilder(testConfig(IPv4))
	before := b.Build(snap)
	leaving := *snap
	leaving.Node.Leaving = true
	after := b.Build(&leaving)
	for i := range before.Tables {
		for j, c := range before.Tables[i].Chains {
			if after.Tables[i].Chains[j] != c {
				t.Fatalf("%s was made anew", c.Name)
			}
		}
	}
}
