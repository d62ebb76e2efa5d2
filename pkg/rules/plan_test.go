package rules

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// apply is a kernel of a few lines: it refuses what the real one refuses.
func apply(t interface{ Fatalf(string, ...any) }, have *Ruleset, tx *Transaction) *Ruleset {
	chains := map[string]*Chain{}
	for _, c := range have.Table(tx.Table).Chains {
		chains[c.Name] = c
	}
	for _, c := range tx.Write {
		chains[c.Name] = c
	}
	for _, name := range tx.Delete {
		if chains[name] == nil {
			t.Fatalf("%s: delete of %s, which is not there", tx.Table, name)
		}
		delete(chains, name)
	}
	table := Table{Name: tx.Table}
	for _, c := range chains {
		for i := range c.Rules {
			if to := c.Rules[i].Jump(); to != "" && chains[to] == nil {
				t.Fatalf("%s: %s leads to %s, which is not there", tx.Table, c.Name, to)
			}
		}
		table.Chains = append(table.Chains, c)
	}
	table.sort()
	after := &Ruleset{Family: have.Family, Tables: []Table{table}, Jumps: slices.Concat(have.Jumps, tx.Jumps), Held: have.Held}
	for _, other := range have.Tables {
		if other.Name != tx.Table {
			after.Tables = append(after.Tables, other)
		}
	}
	return after
}

func drawSnapshot(t *rapid.T, f Family, label string) *Snapshot {
	var svcs []*Service
	for i := range 6 {
		if !rapid.Bool().Draw(t, label+" present") {
			continue
		}
		eps := rapid.SliceOfNDistinct(rapid.IntRange(1, 9), 0, 4, rapid.ID[int]).Draw(t, label+" endpoints")
		slices.Sort(eps)
		svc := clusterService(f, string(rune('a'+i)), i+1, eps...)
		if rapid.Bool().Draw(t, label+" node port") {
			svc.Ports[0].NodePort = uint16(30000 + i)
		}
		svcs = append(svcs, svc)
	}
	return snapshot(svcs...)
}

func verdict(f Fate) string { return f.Verdict + " " + f.Dst.String() }

// Whatever changes, in whatever parts it is written: each transaction loads, the
// last one gives what is wanted, and in between no packet meets a fate that
// neither the old nor the new rules have for it.
func TestEveryStepOfAPlanIsSafe(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			cfg := testConfig(f)
			cfg.leaf = rapid.IntRange(0, 3).Draw(t, "rules in a leaf")
			from := Build(drawSnapshot(t, f, "old"), cfg)
			to := Build(drawSnapshot(t, f, "new"), cfg)
			plan := NewPlan(from, to, rapid.IntRange(0, 3).Draw(t, "chains a transaction"))
			allowed := map[string]bool{}
			eachFate(t, f, from, func(key string) { allowed[key] = true })
			eachFate(t, f, to, func(key string) { allowed[key] = true })
			have := from
			for i := range plan.Transactions {
				have = apply(t, have, &plan.Transactions[i])
				eachFate(t, f, have, func(key string) {
					if !allowed[key] {
						t.Fatalf("after transaction %d: %s", i+1, key)
					}
				})
			}
			if left := NewPlan(have, to, 0); !left.Empty() {
				t.Fatalf("not there after the plan: %s", RenderPlan(left))
			}
			for _, name := range Tables() {
				was, is := from.Table(name).Chains, have.Table(name).Chains
				want := Growth{Rules: countRules(is) - countRules(was), Chains: len(is) - len(was)}
				if got := plan.Growth[name]; got != want {
					t.Fatalf("table %s grows by %+v, the plan says %+v", name, want, got)
				}
			}
		})
	})
}

func eachFate(t *rapid.T, f Family, r *Ruleset, see func(string)) {
	tables, err := ParseSave(RenderPlan(NewPlan(&Ruleset{}, r, 0)), f)
	if err != nil {
		t.Fatal(err)
	}
	for vip := 1; vip <= 6; vip++ {
		p := toService(f, vip, TCP, 80)
		fates, err := Walk(tables, Host{}, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, fate := range fates {
			see(p.Dst.String() + " -> " + verdict(fate))
		}
	}
}

func TestUnchangedServiceWritesNothing(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		b := NewBuilder(testConfig(f))
		web, old, changed := clusterService(f, "web", 1, 1, 2), clusterService(f, "x", 2, 3, 4), clusterService(f, "x", 2, 3, 5)
		before, after := b.Build(snapshot(web, old)), b.Build(snapshot(web, changed))
		svc := prefixService + serviceHash("ns/web", TCP)
		if before.Table(Nat).Chain(svc) != after.Table(Nat).Chain(svc) {
			t.Error("the chain of an unchanged service got a new pointer")
		}
		text := string(RenderPlan(NewPlan(before, after, 0)))
		for _, stranger := range []string{serviceHash("ns/web", TCP), ":KUBE-SERVICES", "*filter"} {
			if strings.Contains(text, stranger) {
				t.Errorf("one endpoint changed, and %s is written:\n%s", stranger, text)
			}
		}
	})
}

func TestBuildKeepsToItsInput(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		snap := snapshot(clusterService(f, "a", 1, 1, 2), clusterService(f, "b", 2))
		if a, b := Build(snap, testConfig(f)), Build(snap, testConfig(f)); !reflect.DeepEqual(a, b) {
			t.Error("the same snapshot gives two rulesets")
		}
		other := IPv4
		if f == IPv4 {
			other = IPv6
		}
		if r := Build(snap, testConfig(other)); len(r.Table(Nat).Chains) != 4 {
			t.Errorf("%d nat chains for a family the services do not have, want the 4 fixed ones", len(r.Table(Nat).Chains))
		}
	})
}
