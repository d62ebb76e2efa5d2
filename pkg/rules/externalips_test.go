package rules

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Without external IPs a cluster has the rules and the flows of one in which no
// Service has any.
func TestExternalIPsAreLeftOut(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		left := 0
		rapid.Check(t, func(t *rapid.T) {
			snap := drawCluster(t, f)
			without := *snap
			without.Services = nil
			for _, s := range snap.Services {
				left += len(s.ExternalIPs)
				c := *s
				c.ExternalIPs = nil
				without.Services = append(without.Services, &c)
			}
			cfg := testConfig(f)
			cfg.WithoutExternalIPs = true
			want := RenderPlan(NewPlan(&Ruleset{}, Build(&without, testConfig(f)), 0))
			got := RenderPlan(NewPlan(&Ruleset{}, Build(snap, cfg), 0))
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("rules (-nobody has any +left out):\n%s", diff)
			}
			if !reflect.DeepEqual(NewFrontends(&without, testConfig(f)).answers, NewFrontends(snap, cfg).answers) {
				t.Error("the flows to external IPs are taken for ours")
			}
		})
		if left == 0 {
			t.Error("no external IP was drawn")
		}
	})
}
