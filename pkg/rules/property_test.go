package rules

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// For any set of Services, any configuration and any packet the rules do what
// the Services mean; in particular each endpoint is reached with probability 1/n
// and nobody else's ever.
func TestRulesDoWhatServicesMean(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		property := func(t *rapid.T) {
			snap, cfg := drawCluster(t, f), drawConfig(t, f)
			tables, err := ParseSave(RenderPlan(NewPlan(&Ruleset{}, Build(snap, cfg), 0)), f)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				x := expectation{snap, cfg, drawPacket(t, f, snap)}
				got, err := Walk(tables, Host{Addresses: snap.Node.Addresses}, x.pkt)
				if err != nil {
					t.Fatal(err)
				}
				if want := x.fates(); !sameFates(got, want) {
					t.Fatalf("packet %+v\ngot  %+v\nwant %+v", x.pkt, got, want)
				}
			}
		}
		for range sets {
			rapid.Check(t, property)
		}
	})
}

func sameFates(a, b []Fate) bool {
	order := func(x, y Fate) int { return x.Dst.Compare(y.Dst) }
	a, b = slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order)
	return slices.EqualFunc(a, b, func(x, y Fate) bool {
		return x.Verdict == y.Verdict && x.Dst == y.Dst && x.Masqueraded == y.Masqueraded && math.Abs(x.Probability-y.Probability) < 1e-6
	})
}

// Whatever the Services are: each chain has a name the kernel takes, is led to,
// and leads only to chains that are there; those of Services are not empty, and
// no rule stands twice in a chain.
func TestChainsHangTogether(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		property := func(t *rapid.T) {
			cfg := drawConfig(t, f)
			fixed, r := Build(snapshot(), cfg), Build(drawCluster(t, f), cfg)
			for _, table := range r.Tables {
				checkTable(t, &table, r.Jumps, fixed.Table(table.Name))
			}
		}
		for range sets {
			rapid.Check(t, property)
		}
	})
}

func checkTable(t *rapid.T, table *Table, jumps []Jump, fixed *Table) {
	reached := map[string]bool{chainMarkMasq: true}
	for _, j := range jumps {
		if j.Table == table.Name {
			reached[j.Rule.Jump()] = true
		}
	}
	for _, c := range table.Chains {
		seen := map[Rule]bool{}
		for _, r := range c.Rules {
			to := r.Jump()
			if to != "" && table.Chain(to) == nil {
				t.Fatalf("%s: %s leads to %s, which is not there", table.Name, c.Name, to)
			}
			if seen[r] {
				t.Fatalf("%s: %s has twice: %s", table.Name, c.Name, r)
			}
			reached[to], seen[r] = true, true
		}
	}
	for _, c := range table.Chains {
		switch empty := len(c.Rules) == 0 && fixed.Chain(c.Name) == nil; {
		case len(c.Name) > 28:
			t.Fatalf("%s: %s: the name is too long", table.Name, c.Name)
		case table.Name == Nat && !kubeProxyKnows(c.Name):
			t.Fatalf("nat: kube-proxy would neither write %s nor remove it", c.Name)
		case !reached[c.Name] && (fixed.Chain(c.Name) == nil || c.Name != chainNodePorts):
			t.Fatalf("%s: nothing leads to %s", table.Name, c.Name)
		case empty:
			t.Fatalf("%s: %s is empty", table.Name, c.Name)
		}
	}
}

// kubeProxyKnows reports whether kube-proxy writes a chain of nat by that name, or
// takes it for an old one of a Service's and removes it. Chains that it leaves and that
// lead to one it wants to remove would keep it from writing anything.
func kubeProxyKnows(chain string) bool {
	switch chain {
	case "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ":
		return true
	}
	return slices.ContainsFunc([]string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-FW-", "KUBE-SEP-", "KUBE-EXT-"},
		func(prefix string) bool { return strings.HasPrefix(chain, prefix) })
}

// The kernel's state after any changes, in whatever parts they are written, is
// that of a fresh load.
func TestChangesEndWhereAFreshLoadDoes(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			cfg := drawConfig(t, f)
			b, have := NewBuilder(cfg), &Ruleset{Family: f}
			var last *Snapshot
			for range rapid.IntRange(1, 5).Draw(t, "changes") {
				last = drawCluster(t, f)
				plan := NewPlan(have, b.Build(last), rapid.IntRange(0, 3).Draw(t, "chains a transaction"))
				for i := range plan.Transactions {
					have = apply(t, have, &plan.Transactions[i])
				}
				have.Jumps = slices.Concat(have.Jumps, plan.Jumps)
			}
			if left := NewPlan(have, Build(last, cfg), 0); !left.Empty() {
				t.Fatalf("a fresh load differs by\n%s", RenderPlan(left))
			}
		})
	})
}

// Rules of others in a shared chain outlive every change of ours.
func TestSharedChainKeepsOthersRules(t *testing.T) {
	const spec = "-m mark --mark 0x8000/0x8000 -m owner --uid-owner 7 -j DROP"
	theirs := Rule{}.to(Drop).With(Rare{Unparsed: spec})
	have := &Ruleset{Family: IPv4, Tables: []Table{{Name: Filter, Chains: []*Chain{{Name: chainKubeFirewall, Rules: []Rule{theirs}}}}}}
	want := Build(snapshot(), testConfig(IPv4))
	text := string(RenderPlan(NewPlan(have, want, 0)))
	for _, rule := range []string{spec, "block incoming localnet connections"} {
		if !strings.Contains(text, "-A KUBE-FIREWALL ") || !strings.Contains(text, rule) {
			t.Errorf("not written: %s\n%s", rule, text)
		}
	}
	have.Tables[0].Chains[0] = &Chain{Name: chainKubeFirewall, Rules: append(want.Table(Filter).Chain(chainKubeFirewall).Rules, theirs)}
	cfg := testConfig(IPv4)
	cfg.NodePorts.Localhost = false
	for _, c := range []Config{cfg, testConfig(IPv4)} {
		if text := string(RenderPlan(NewPlan(have, Build(snapshot(), c), 0))); strings.Contains(text, ":KUBE-FIREWALL") {
			t.Errorf("a chain that needs no rule of ours is written:\n%s", text)
		}
	}
}

func TestNodePortAddresses(t *testing.T) {
	cidr := netip.MustParsePrefix
	for name, c := range map[string]struct {
		addrs NodePortAddresses
		want  string // what KUBE-SERVICES ends in
	}{
		"none":                   {NodePortAddresses{}, ""},
		"all":                    {NodePortAddresses{Ranges: []netip.Prefix{cidr("0.0.0.0/0")}, Localhost: true}, "any"},
		"all but loopback":       {NodePortAddresses{Ranges: []netip.Prefix{cidr("0.0.0.0/0")}}, "!127.0.0.0/8"},
		"all beside a narrow":    {NodePortAddresses{Ranges: []netip.Prefix{cidr("10.0.0.0/8"), cidr("0.0.0.0/0")}, Localhost: true}, "any"},
		"primary":                {NodePortAddresses{Primary: true}, "10.250.0.2/32"},
		"loopback, not wanted":   {NodePortAddresses{Ranges: []netip.Prefix{cidr("127.0.0.0/16"), cidr("10.0.0.0/8")}}, "10.0.0.0/8"},
		"loopback":               {NodePortAddresses{Ranges: []netip.Prefix{cidr("127.0.0.0/16")}, Localhost: true}, "127.0.0.0/16"},
		"around unwanted":        {NodePortAddresses{Ranges: []netip.Prefix{cidr("0.0.0.0/1")}}, "RETURN 127.0.0.0/8, 0.0.0.0/1"},
		"around wanted loopback": {NodePortAddresses{Ranges: []netip.Prefix{cidr("0.0.0.0/1")}, Localhost: true}, "0.0.0.0/1"},
	} {
		cfg := testConfig(IPv4)
		cfg.NodePorts = c.addrs
		node := &Node{Primary: []netip.Addr{nodeAddr(IPv4, 0)}}
		var got []string
		for _, r := range toNodePorts(&cfg, node) {
			word := "any"
			if r.Dst.Prefix.IsValid() {
				word = r.Dst.Prefix.String()
			}
			if r.Dst.Not {
				word = "!" + word
			}
			if r.Target.Name == Return {
				word = "RETURN " + word
			}
			got = append(got, word)
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %q, want %q", name, s, c.want)
		}
	}
}
