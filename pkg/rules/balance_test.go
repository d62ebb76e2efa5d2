package rules

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// However many endpoints there are, each gets the same share, and a packet meets few
// rules on its way to one.
func TestManyEndpointsShareAlike(t *testing.T) {
	for _, test := range []struct {
		n       int
		longest int     // chain
		met     float64 // rules, by a packet, on average
	}{
		{1, 1, 1}, {16, 16, 9}, {17, 16, 8}, {128, 18, 14}, {129, 16, 12}, {1000, 24, 18}, {5000, 40, 32},
	} {
		svc := clusterService(IPv4, "web", 1, endpointNumbers(test.n)...)
		nat := Build(snapshot(svc), Config{Family: IPv4}).Table(Nat)
		longest, met := 0, 0.0
		shares := map[string]float64{}
		var follow func(chain string, share float64)
		follow = func(name string, share float64) {
			c := nat.Chain(name)
			longest = max(longest, len(c.Rules))
			for i := range c.Rules {
				met += share
				mine := share
				if p := c.Rules[i].Statistic; p != 0 {
					mine *= p.Float()
				}
				if to := c.Rules[i].Jump(); hasAnyPrefix(to, "KUBE-SEP-") {
					shares[to] += mine
				} else {
					follow(to, mine)
				}
				share -= mine
			}
		}
		chain, _ := PortChains(svc.ID(&svc.Ports[0]), TCP)
		follow(chain, 1)
		if len(shares) != test.n || longest > test.longest || met > test.met {
			t.Errorf("%d endpoints: %d are led to, the longest chain has %d rules, and a packet meets %.1f on average; want at most %d and %.0f",
				test.n, len(shares), longest, met, test.longest, test.met)
		}
		for chain, share := range shares {
			if math.Abs(share*float64(test.n)-1) > 1e-5 {
				t.Errorf("%d endpoints: %s gets %v of its share", test.n, chain, share*float64(test.n))
			}
		}
	}
}

// One endpoint more or less rewrites its own bucket, and the chains above it, however
// many others there are.
func TestOneOfManyEndpointsChangesFewRules(t *testing.T) {
	for _, n := range []int{100, 1000, 5000} {
		b := NewBuilder(Config{Family: IPv4})
		numbers := endpointNumbers(n)
		have := b.Build(snapshot(clusterService(IPv4, "web", 1, numbers...)))
		want := b.Build(snapshot(clusterService(IPv4, "web", 1, slices.Delete(slices.Clone(numbers), n/2, n/2+1)...)))
		rules := 0
		for _, tx := range NewPlan(have, want, 0).Transactions {
			for _, c := range tx.Write {
				rules += len(c.Rules)
			}
		}
		if rules > 72 {
			t.Errorf("one of %d endpoints less writes %d rules", n, rules)
		}
	}
}

// The Service is named where it is found, however many endpoints it has.
func TestManyEndpointsBearNoComments(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		for n, comments := range map[int]bool{manyEndpoints: true, manyEndpoints + 1: false} {
			for _, c := range Build(snapshot(clusterService(f, "web", 10, endpointNumbers(n)...)), testConfig(f)).Table(Nat).Chains {
				for _, r := range c.Rules {
					switch {
					case c.Name == chainServices && r.Comment == "":
						t.Errorf("%d endpoints: %+v does not name its Service", n, r)
					case strings.HasPrefix(r.Target.Name, "KUBE-SEP-") || strings.HasPrefix(c.Name, "KUBE-SEP-"):
						if (r.Comment != "") != comments {
							t.Errorf("%d endpoints: %s has the comment %q", n, c.Name, r.Comment)
						}
					}
				}
			}
		}
	})
}

func endpointNumbers(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i + 1
	}
	return out
}
