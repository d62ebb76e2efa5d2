package kernel

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// onEach runs a test in a namespace of its own for each backend and family.
func onEach(t *testing.T, test func(t *testing.T, k *Tables)) {
	t.Helper()
	for _, b := range []Backend{NFT, Legacy} {
		for _, f := range rules.Families() {
			t.Run(string(b)+"/"+f.String(), func(t *testing.T) {
				kerneltest.Enter(t)
				host := NewHost(b)
				t.Cleanup(host.Close)
				k, err := host.Tables(f)
				if err != nil {
					t.Fatal(err)
				}
				test(t, k)
			})
		}
	}
}

// everyKind is a snapshot whose rules have every shape there is.
func everyKind(f rules.Family) *rules.Snapshot {
	addr, cidr := netip.MustParseAddr, netip.MustParsePrefix
	vips := []string{"10.96.0.1", "10.96.0.2", "10.96.0.3", "203.0.113.1", "203.0.113.2", "10.21.0.1", "10.21.0.2"}
	ranges := cidr("192.168.0.0/16")
	if f == rules.IPv6 {
		vips = []string{"fd00:96::1", "fd00:96::2", "fd00:96::3", "2001:db8::1", "2001:db8::2", "fd00:21::1", "fd00:21::2"}
		ranges = cidr("fd00:192::/32")
	}
	port := func(p rules.Protocol, ready ...bool) rules.ServicePort {
		sp := rules.ServicePort{Protocol: p, Port: 80, NodePort: 30080}
		for i, r := range ready {
			sp.Endpoints = append(sp.Endpoints, rules.Endpoint{
				Addr: netip.AddrPortFrom(addr(vips[5+i]), 8080), NodeName: "here", Ready: r, Serving: r,
			})
		}
		return sp
	}
	all := rules.Service{
		Namespace: "ns", Name: "all", ClusterIPs: []netip.Addr{addr(vips[0])},
		ExternalIPs: []netip.Addr{addr(vips[3])}, LoadBalancerIPs: []netip.Addr{addr(vips[4])},
		RestrictSources: true, SourceRanges: []netip.Prefix{ranges},
		ExternalTrafficLocal: true, AffinitySeconds: 600, HealthCheckNodePort: 32000,
		Ports: []rules.ServicePort{port(rules.TCP, true, true)},
	}
	sctp := rules.Service{Namespace: "ns", Name: "sctp", ClusterIPs: []netip.Addr{addr(vips[1])}, Ports: []rules.ServicePort{port(rules.SCTP, true)}}
	none := rules.Service{Namespace: "ns", Name: "none", ClusterIPs: []netip.Addr{addr(vips[2])}, Ports: []rules.ServicePort{port(rules.UDP)}}
	network := netip.PrefixFrom(addr(vips[0]), addr(vips[0]).BitLen()-8).Masked()
	return &rules.Snapshot{Node: rules.Node{Name: "here"}, Services: []*rules.Service{&all, &none, &sctp}, ServiceCIDRs: []netip.Prefix{network}}
}

func want(k *Tables) *rules.Ruleset { return wantOf(k, everyKind(k.family)) }

func wantNothing(k *Tables) *rules.Ruleset { return wantOf(k, &rules.Snapshot{}) }

func wantOf(k *Tables, snap *rules.Snapshot) *rules.Ruleset {
	cidr := netip.MustParsePrefix("10.21.0.0/16")
	if k.family == rules.IPv6 {
		cidr = netip.MustParsePrefix("fd00:21::/32")
	}
	return rules.Build(snap, rules.Config{
		Family: k.family, PodTraffic: rules.PodTraffic{CIDR: cidr}, MasqueradeMark: 0x4000, DropInvalid: true,
		NodePorts: rules.NodePortAddresses{Ranges: []netip.Prefix{k.family.All()}, Localhost: true},
	})
}

func read(t *testing.T, k *Tables) *rules.Ruleset {
	t.Helper()
	have, err := k.Read(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// foreign returns the lines of both tables, without comments, counters of chains,
// and whatever is ours.
func foreign(t *testing.T, k *Tables) string {
	t.Helper()
	var out strings.Builder
	for _, table := range rules.Tables() {
		for line := range strings.Lines(kerneltest.Run(t, "", k.tools.save, "-t", string(table))) {
			if !strings.HasPrefix(line, "#") && !strings.Contains(line, "KUBE-") {
				out.WriteString(line)
			}
		}
	}
	return out.String()
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		kerneltest.Run(t, "*nat\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n-A DOCKER -p tcp --dport 99 -j RETURN\nCOMMIT\n", k.tools.restore, "--noflush")
		before := foreign(t, k)
		w := want(k)
		if err := k.Apply(context.Background(), rules.NewPlan(read(t, k), w, 5)); err != nil {
			t.Fatal(err)
		}
		if left := rules.NewPlan(read(t, k), w, 0); !left.Empty() {
			t.Errorf("read back, this differs:\n%s", rules.RenderPlan(left))
		}
		forward := strings.Fields(kerneltest.Run(t, "", k.tools.command, "-S", "FORWARD"))
		var targets []string
		for i, word := range forward {
			if word == "-j" {
				targets = append(targets, forward[i+1])
			}
		}
		if got := strings.Join(targets, " "); got != "KUBE-PROXY-FIREWALL KUBE-FORWARD KUBE-SERVICES KUBE-EXTERNAL-SERVICES" {
			t.Errorf("FORWARD leads to %s, in another order than kube-proxy's", got)
		}
		if err := k.cleanup(context.Background()); err != nil {
			t.Fatal(err)
		}
		if left := chainsOf(read(t, k)); k.family == rules.IPv4 && left != "KUBE-FIREWALL" || k.family == rules.IPv6 && left != "" {
			t.Errorf("left after cleanup: %q, want nothing but the chain shared with kubelet", left)
		}
		if after := foreign(t, k); after != before {
			t.Errorf("foreign rules changed:\n%s\nbefore:\n%s", after, before)
		}
	})
}

// chainsOf lists our chains and those that are led to.
func chainsOf(r *rules.Ruleset) string {
	var names []string
	for _, t := range r.Tables {
		for _, c := range t.Chains {
			names = append(names, c.Name)
		}
	}
	for _, j := range r.Jumps {
		names = append(names, j.Rule.Jump())
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " ")
}

// kubelet keeps rules in a chain that we write too; they outlive us.
func TestKubeletsRulesOutliveSyncAndCleanup(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		kubelets := "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -m limit --limit 7/min -j DROP"
		kerneltest.Run(t, "*filter\n:KUBE-FIREWALL - [0:0]\n"+kubelets+"\nCOMMIT\n", k.tools.restore, "--noflush")
		w := want(k)
		for range 2 {
			if err := k.Apply(context.Background(), rules.NewPlan(read(t, k), w, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if left := rules.NewPlan(read(t, k), w, 0); !left.Empty() {
			t.Errorf("after a sync this differs:\n%s", rules.RenderPlan(left))
		}
		for _, step := range []string{"sync", "cleanup"} {
			out := kerneltest.Run(t, "", k.tools.command, "-S", "KUBE-FIREWALL")
			if strings.Count(out, "--limit 7/min") != 1 {
				t.Errorf("after %s kubelet's rule is not there once:\n%s", step, out)
			}
			if err := k.cleanup(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestARefusedTransactionNamesItsLineAndChangesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		w := want(k)
		if err := k.Apply(context.Background(), rules.NewPlan(read(t, k), w, 0)); err != nil {
			t.Fatal(err)
		}
		bad := rules.Rule{Target: rules.Target{Name: "KUBE-SVC-MISSING"}}
		tx := rules.Transaction{Table: rules.Nat, Write: []*rules.Chain{{Name: "KUBE-SERVICES", Rules: []rules.Rule{bad}}}}
		same := rules.Transaction{Table: rules.Nat, Write: []*rules.Chain{w.Table(rules.Nat).Chain("KUBE-NODEPORTS")}}
		err := k.Apply(context.Background(), &rules.Plan{Family: k.family, Transactions: []rules.Transaction{same, tx, same}})
		var refused *RestoreError
		if !errors.As(err, &refused) || refused.Line == 0 || refused.Stderr == "" || refused.Done != 1 {
			t.Errorf("got %+v, want a RestoreError with a line, after one transaction", err)
		}
		if left := rules.NewPlan(read(t, k), w, 0); !left.Empty() {
			t.Errorf("the refused transaction left a trace:\n%s", rules.RenderPlan(left))
		}
	})
}

func TestDetectFollowsTheHost(t *testing.T) {
	for _, b := range []Backend{NFT, Legacy} {
		t.Run(string(b), func(t *testing.T) {
			kerneltest.Enter(t)
			kerneltest.Run(t, "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n", "iptables-"+string(b)+"-restore", "--noflush")
			if got, err := Detect(context.Background(), Auto, rules.Families()); err != nil || got != b {
				t.Errorf("with kubelet's chain in %s: %s, %v", b, got, err)
			}
		})
	}
}

// A rule of nft's that iptables-nft has no words for hides nothing of the other tables:
// the host uses nft all the same.
func TestDetectSeesPastWhatIPTablesCannotRead(t *testing.T) {
	kerneltest.Enter(t)
	kerneltest.Run(t, "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n", "iptables-nft-restore", "--noflush")
	kerneltest.Run(t, "", "iptables-nft", "-t", "nat", "-A", "OUTPUT", "-j", "RETURN")
	kerneltest.Run(t, "", "nft", "add rule ip nat OUTPUT meta cpu 1 accept")
	kerneltest.Run(t, "", "iptables-legacy", "-A", "OUTPUT", "-j", "RETURN")
	if got, err := Detect(context.Background(), Auto, rules.Families()); err != nil || got != NFT {
		t.Errorf("with kubelet's chain in nft: %s, %v", got, err)
	}
}

// Rules that nft made in the built-in chains keep nobody from serving.
func TestTablesThatIPTablesCannotReadAreUsable(t *testing.T) {
	for name, rule := range map[string]string{"left out": "ct state new accept", "failed at": "meta cpu 1 accept"} {
		for _, f := range rules.Families() {
			t.Run(name+"/"+f.String(), func(t *testing.T) {
				kerneltest.Enter(t)
				k := tablesOf(t, NewHost(NFT), f)
				family := map[rules.Family]string{rules.IPv4: "ip ", rules.IPv6: "ip6 "}[f]
				for chain, table := range map[string]string{"POSTROUTING": "nat", "INPUT": "filter"} {
					kerneltest.Run(t, "", k.tools.command, "-t", table, "-A", chain, "-j", "RETURN")
					kerneltest.Run(t, "", "nft", "add rule "+family+table+" "+chain+" "+rule)
				}
				if err := k.Probe(context.Background()); err != nil {
					t.Error(err)
				}
				if err := k.Apply(context.Background(), rules.NewPlan(read(t, k), want(k), 0)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// iptables finds a rule only by its matches in their order, and who wrote a jump may
// have had another one.
func TestCleanupDeletesJumpsHoweverTheyAreSpelled(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		if err := k.Apply(context.Background(), rules.NewPlan(read(t, k), want(k), 0)); err != nil {
			t.Fatal(err)
		}
		for _, order := range []string{
			"-m conntrack --ctstate NEW -m comment --comment portals",
			"-m comment --comment portals -m conntrack --ctstate NEW",
		} {
			kerneltest.Run(t, "", k.tools.command, strings.Fields("-I FORWARD "+order+" -j KUBE-SERVICES")...)
		}
		if err := k.cleanup(context.Background()); err != nil {
			t.Error(err)
		}
		if left := kerneltest.Run(t, "", k.tools.command, "-S", "FORWARD"); strings.Contains(left, "KUBE-") {
			t.Errorf("left:\n%s", left)
		}
	})
}

// A table of nft's own is none of iptables', whatever it is called.
func TestDetectPassesOverTablesOfNFT(t *testing.T) {
	kerneltest.Enter(t)
	kerneltest.Run(t, "", "nft", "add table ip filter; add chain ip filter input { type filter hook input priority 0; }; "+
		"add rule ip filter input tcp dport 22 accept; add rule ip filter input tcp dport 80 accept")
	kerneltest.Run(t, "", "iptables-legacy", "-A", "OUTPUT", "-j", "RETURN")
	if got, err := Detect(context.Background(), Auto, rules.Families()); err != nil || got != Legacy {
		t.Errorf("with rules of nft's: %s, %v", got, err)
	}
}
