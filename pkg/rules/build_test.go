package rules

import (
	"testing"

	"pgregory.net/rapid"
)

// Whatever the Services are: each chain has a name the kernel takes, is led to,
// and leads only to chains that are there; those of Services are not empty.
func TestChainsHangTogether(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			r := Build(drawSnapshot(t, f, "cluster"), testConfig(f))
			for _, table := range r.Tables {
				reached := map[string]bool{}
				for _, j := range r.Jumps {
					if j.Table == table.Name {
						reached[j.Rule.Jump()] = true
					}
				}
				for _, c := range table.Chains {
					for i := range c.Rules {
						to := c.Rules[i].Jump()
						if to != "" && table.Chain(to) == nil {
							t.Fatalf("%s: %s leads to %s, which is not there", table.Name, c.Name, to)
						}
						reached[to] = true
					}
				}
				for _, c := range table.Chains {
					fixed := Build(snapshot(), testConfig(f)).Table(table.Name).Chain(c.Name) != nil
					if len(c.Name) > 28 || (!reached[c.Name] && c.Name != chainMarkMasq) || (len(c.Rules) == 0 && !fixed) {
						t.Fatalf("%s: %s: reached %v, %d rules", table.Name, c.Name, reached[c.Name], len(c.Rules))
					}
				}
			}
		})
	})
}
