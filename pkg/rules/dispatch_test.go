package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// toAddr is a rule for an address and port, which leads to a chain named after it.
func toAddr(a netip.Addr, port uint16) Rule {
	return Rule{Dst: AddrMatch{Prefix: only(a)}, Protocol: TCP, DstPort: Port(port)}.to(Accept)
}

// addrsOf returns n addresses, the i-th of them base plus what place says.
func addrsOf(f Family, n int, place func(i int) uint64) []netip.Addr {
	out := make([]netip.Addr, n)
	for i := range out {
		b := netip.MustParseAddr("10.96.0.0").AsSlice()
		if f == IPv6 {
			b = netip.MustParseAddr("fd00:96::").AsSlice()
		}
		v := place(i)
		for j := 0; v > 0; j++ {
			b[len(b)-1-j] += byte(v)
			v >>= 8
		}
		out[i], _ = netip.AddrFromSlice(b)
	}
	return out
}

// shape is what a tree is like.
type shape struct {
	depth   int // of chains below the first
	longest int // rules in a chain
	met     int // rules that a packet meets at most
	found   int // rules for a destination
}

// measure walks a tree. Every jump must lead to a chain of the tree.
func measure(t *testing.T, chains []*Chain, name string) shape {
	t.Helper()
	i := slices.IndexFunc(chains, func(c *Chain) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("%s is not there", name)
	}
	if len(name) > maxChainName || !Owned(Nat, name) {
		t.Fatalf("%s is too long a name, or none of ours", name)
	}
	all := shape{longest: len(chains[i].Rules)}
	for _, r := range chains[i].Rules {
		if r.Jump() == "" {
			all.found++
			continue
		}
		below := measure(t, chains, r.Jump())
		all.depth, all.longest, all.met = max(all.depth, below.depth+1), max(all.longest, below.longest), max(all.met, below.met)
		all.found += below.found
	}
	all.met += len(chains[i].Rules)
	return all
}

func TestTreesStayFlat(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		for _, test := range []struct {
			name  string
			n     int
			place func(i int) uint64
			most  shape
		}{
			{"as many as a leaf holds", 16, func(i int) uint64 { return uint64(i) * 7 }, shape{depth: 0, longest: 16, met: 16}},
			{"one more", 17, func(i int) uint64 { return uint64(i) * 7 }, shape{depth: 2, longest: 16, met: 16}},
			{"thousands in a row", 5000, func(i int) uint64 { return uint64(i) }, shape{depth: 7, longest: 16, met: 40}},
			{"spread evenly", 5000, func(i int) uint64 { return uint64(i) * 200 }, shape{depth: 7, longest: 16, met: 40}},
			{"pairs that differ in the last bit", 4000, func(i int) uint64 { return uint64(i/2)<<8 | uint64(i%2) }, shape{depth: 7, longest: 16, met: 40}},
			{"a dense part of a wide network", 2000, func(i int) uint64 { return uint64(max(i, i%2*i*500)) }, shape{depth: 7, longest: 16, met: 60}},
			{"nested", 32, func(i int) uint64 { return 1 << (i % 20) << (i / 20) }, shape{depth: 7, longest: 16, met: 40}},
		} {
			t.Run(test.name, func(t *testing.T) {
				var rules []Rule
				for _, a := range addrsOf(f, test.n, test.place) {
					rules = append(rules, toAddr(a, 80))
				}
				chains := dispatch(&Config{Family: f}, chainServices, treeByIP, rules, nil)
				got := measure(t, chains, chainServices)
				if got.depth > test.most.depth || got.longest > test.most.longest || got.met > test.most.met || got.found != test.n {
					t.Errorf("%d rules: %+v; want at most %+v, and all found", test.n, got, test.most)
				}
			})
		}
	})
}

// The addresses of IPv6 are longer than the tree may be deep: then a leaf grows.
func TestTreeIsNeverTooDeep(t *testing.T) {
	var rules []Rule
	for i := range 128 {
		b := [16]byte{}
		b[i/8] = 0x80 >> (i % 8)
		for range 20 {
			rules = append(rules, toAddr(netip.AddrFrom16(b), uint16(len(rules))))
		}
	}
	chains := dispatch(&Config{Family: IPv6}, chainServices, treeByIP, rules, nil)
	if got := measure(t, chains, chainServices); got.depth > maxTreeDepth || got.found != len(rules) {
		t.Errorf("%+v of %d rules", got, len(rules))
	}
}

// Many ports of one address, and many node ports, are told apart by port.
func TestPortTrees(t *testing.T) {
	var rules []Rule
	for port := range 3000 {
		rules = append(rules, toAddr(netip.MustParseAddr("10.96.0.1"), uint16(30000+port)))
		rules = append(rules, Rule{Protocol: UDP, DstPort: Port(uint16(30000 + port))}.to(Accept))
	}
	chains := dispatch(&Config{Family: IPv4}, chainServices, treeByIP, rules, nil)
	if got := measure(t, chains, chainServices); got.depth > 4 || got.longest > 16 || got.found != len(rules) {
		t.Errorf("%+v of %d rules", got, len(rules))
	}
}

// Whatever the rules are, a packet finds those for its destination, in their
// order, and no others; and one rule more or less changes few chains.
func TestTreeFindsWhatTheListFinds(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			cfg := &Config{Family: f, leaf: rapid.IntRange(1, 20).Draw(t, "leaf")}
			places := rapid.SliceOfN(rapid.Uint64Range(0, 1<<20), 1, 60).Draw(t, "places")
			ports := rapid.SliceOfN(rapid.Uint16Range(1, 9), len(places), len(places)).Draw(t, "ports")
			var rules []Rule
			for i, a := range addrsOf(f, len(places), func(i int) uint64 { return places[i] }) {
				r := toAddr(a, ports[i])
				r.Comment = fmt.Sprint(i)
				rules = append(rules, r)
			}
			chains := dispatch(cfg, chainServices, treeByIP, rules, nil)
			for _, r := range rules {
				if got, want := matching(chains, chainServices, r), matching([]*Chain{{Name: "list", Rules: rules}}, "list", r); !slices.Equal(got, want) {
					t.Fatalf("a packet to %s finds %v, want %v", r.Dst.Prefix, got, want)
				}
			}
			fewer := dispatch(cfg, chainServices, treeByIP, rules[1:], nil)
			tx := changes(&Table{Nat, sortedChains(chains)}, &Table{Nat, sortedChains(fewer)})
			// A leaf, its parent, one that now begins with another prefix, and what a
			// leaf was divided into before: however many rules there are.
			if n := len(tx.Write) + len(tx.Delete); n > 4+cfg.leaf+maxTreeDepth {
				t.Fatalf("one rule less changes %d of %d chains", n, len(chains))
			}
		})
	})
}

func sortedChains(chains []*Chain) []*Chain {
	return slices.SortedFunc(slices.Values(chains), compareChains)
}

// matching lists the comments of the rules that a packet to the destination of to
// meets and matches.
func matching(chains []*Chain, name string, to Rule) []string {
	var out []string
	i := slices.IndexFunc(chains, func(c *Chain) bool { return c.Name == name })
	for _, r := range chains[i].Rules {
		dst := to.Dst.Prefix.Addr()
		if r.Dst.Prefix.IsValid() && !r.Dst.Prefix.Contains(dst) || r.Protocol != "" && r.Protocol != to.Protocol ||
			(r.DstPort != PortRange{}) && (to.DstPort.First < r.DstPort.First || to.DstPort.First > r.DstPort.Last) {
			continue
		}
		if r.Jump() != "" {
			out = append(out, matching(chains, r.Jump(), to)...)
		} else {
			out = append(out, r.Comment)
		}
	}
	return out
}
