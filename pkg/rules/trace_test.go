package rules

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// saved is what the kernel would print of a ruleset that was loaded into it.
func saved(t interface{ Fatal(...any) }, want *Ruleset) *Save {
	s, err := ReadSave(string(RenderPlan(NewPlan(&Ruleset{}, want, 0))), want.Family)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readSave(t *testing.T, text string) *Save {
	t.Helper()
	s, err := ReadSave(text, IPv4)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func trace(t *testing.T, text string, h Host, p Packet) *Journey {
	t.Helper()
	j, err := Trace([]Layer{{Save: readSave(t, text)}}, h, p)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// endsOf says in words how packets end.
func endsOf(j *Journey) string {
	var out []string
	for _, e := range j.Ends {
		word := fmt.Sprintf("%.2g %s %s", e.Probability, e.Verdict, e.Dst)
		if e.Masqueraded {
			word += " masqueraded"
		}
		if e.Unsure {
			word += " unsure"
		}
		if e.Where != "" {
			word += " at " + e.Where
		}
		out = append(out, word)
	}
	return strings.Join(out, ", ")
}

// Trace sends packets where Walk does, and what it tells of the way adds up.
func TestTraceEndsWhereWalkDoes(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			cfg := drawConfig(t, f)
			snap := drawCluster(t, f)
			p := drawPacket(t, f, snap)
			want := Build(snap, cfg)
			save := saved(t, want)
			tables, err := ParseSave([]byte(save.Text()), f)
			if err != nil {
				t.Fatal(err)
			}
			host := Host{Addresses: snap.Node.Addresses}
			fates, err := Walk(tables, host, p)
			if err != nil {
				t.Fatal(err)
			}
			j, err := Trace([]Layer{{Save: save}}, host, p)
			if err != nil {
				t.Fatal(err)
			}
			if len(j.Unknown) > 0 {
				t.Fatalf("not understood: %+v", j.Unknown)
			}
			if got := fatesOf(j); !slices.EqualFunc(got, fates, near) {
				t.Fatalf("%+v ends as %+v, walked: %+v", p, got, fates)
			}
			for _, passage := range j.Passages {
				checkShares(t, passage.Steps, passage.Share)
			}
		})
	})
}

func fatesOf(j *Journey) []Fate {
	var out []Fate
	for _, e := range j.Ends {
		out = append(out, e.Fate)
	}
	return merge(out)
}

func near(a, b Fate) bool {
	d := math.Abs(a.Probability - b.Probability)
	a.Probability = b.Probability
	return a == b && d < 1e-9
}

// checkShares: no rule takes more packets than get to its chain, and they stand in
// order.
func checkShares(t *rapid.T, steps []*Step, most float64) {
	last := 0
	for _, s := range steps {
		if s.Share <= 0 || s.Share > most+1e-9 || s.Number <= last || s.Text == "" {
			t.Fatalf("share %g of %g, rule %d behind %d: %s", s.Share, most, s.Number, last, s.Text)
		}
		last = s.Number
		checkShares(t, s.Steps, s.Share)
	}
}

func TestTraceTellsTheWay(t *testing.T) {
	svc := clusterService(IPv4, "web", 1, 1, 2)
	save := saved(t, Build(snapshot(svc), testConfig(IPv4)))
	j, err := Trace([]Layer{{Name: "nft", Save: save}}, Host{}, toService(IPv4, 1, TCP, 80))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var tell func(steps []*Step, depth int)
	tell = func(steps []*Step, depth int) {
		for _, s := range steps {
			got = append(got, fmt.Sprintf("%s%s %s %d to %s %.2g", strings.Repeat(" ", depth), s.Table, s.Chain[:min(12, len(s.Chain))], s.Number, s.Target[:min(12, len(s.Target))], s.Share))
			tell(s.Steps, depth+1)
		}
	}
	for _, p := range j.Passages {
		got = append(got, fmt.Sprintf("%s %s %s %.2g", p.Layer, p.Table, p.Chain, p.Share))
		tell(p.Steps, 1)
	}
	want := []string{
		"nft nat OUTPUT 1",
		" nat OUTPUT 1 to KUBE-SERVICE 1",
		"  nat KUBE-SERVICE 1 to KUBE-SVC-2E3 1",
		"   nat KUBE-SVC-2E3 1 to KUBE-MARK-MA 1",
		"    nat KUBE-MARK-MA 1 to MARK 1",
		"   nat KUBE-SVC-2E3 2 to KUBE-SEP-L6E 0.5",
		"    nat KUBE-SEP-L6E 2 to DNAT 0.5",
		"   nat KUBE-SVC-2E3 3 to KUBE-SEP-YAI 0.5",
		"    nat KUBE-SEP-YAI 2 to DNAT 0.5",
	}
	if len(got) < len(want) || !slices.Equal(withoutHashes(got[:len(want)]), withoutHashes(want)) {
		t.Errorf("got\n%s\nwant, but for hashes,\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if last := got[len(got)-1]; !strings.Contains(last, "nat KUBE-POSTROU 3 to MASQUERADE 1") {
		t.Errorf("the last rule is %q", last)
	}
}

// withoutHashes leaves out what is in hashes.
func withoutHashes(lines []string) []string {
	var out []string
	for _, l := range lines {
		for _, prefix := range []string{"KUBE-SVC-", "KUBE-SEP-"} {
			if i := strings.Index(l, prefix); i >= 0 {
				l = strings.ReplaceAll(l, l[i:i+12], prefix)
			}
		}
		out = append(out, l)
	}
	return out
}

const clientAddr, serverAddr = "192.0.2.7:40000", "10.96.0.1:80"

func received(in string) Packet {
	return Packet{In: in, Protocol: TCP, Src: netip.MustParseAddrPort(clientAddr), Dst: netip.MustParseAddrPort(serverAddr)}
}

// Rules of others: what is understood of one decides where it can, and where it
// cannot both ways are followed.
func TestTraceOfRulesOfOthers(t *testing.T) {
	const dnat = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING %s -j DNAT --to-destination 10.0.0.9:8080\nCOMMIT\n"
	const drop = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD %s\nCOMMIT\n"
	through, dropped := "1 ACCEPT 10.96.0.1:80", "1 DROP 10.96.0.1:80 at filter FORWARD rule 1"
	either := "1 ACCEPT 10.96.0.1:80 unsure, 1 DROP 10.96.0.1:80 unsure at filter FORWARD rule 1"
	for _, c := range []struct {
		text, rule, want string
		unknown          int
	}{
		{drop, "-p icmp -j DROP", through, 0},
		{drop, "! -p icmp -j DROP", dropped, 0},
		{drop, "-p udp -m geoip --src-cc XX -j DROP", through, 0},
		{drop, "-s 198.51.100.0/24 -m set --match-set bad src -j DROP", through, 0},
		{drop, "-m set --match-set bad src -j DROP", either, 1},
		{drop, "-m limit --limit 5/sec -j LOG --log-prefix \"-j DROP\"", through, 0},
		{drop, "-m set --match-set bad src -j RETURN", through, 0},
		{drop, "-i eth0 -o cni0 -j DROP", dropped, 0},
		{drop, "-i eth0 ! -o cni0 -j DROP", through, 0},
		{drop, "-i eth0 -o docker0 -j DROP", through, 0},
		{drop, "-p tcp -m multiport --dports 443,80 -j DROP", dropped, 0},
		{drop, "-p tcp -m multiport --dports 443,8000:8080 -j DROP", through, 0},
		{drop, "-p tcp -m multiport ! --dports 443 -j DROP", dropped, 0},
		{drop, "-p tcp -m tcp --sport 40000 -j DROP", dropped, 0},
		{drop, "-p tcp -m tcp --sport 1:1023 -j DROP", through, 0},
		{drop, "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP", dropped, 0},
		{drop, "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP", through, 0},
		{drop, "-m state --state NEW -j DROP", dropped, 0},
		{drop, "-m state --state ESTABLISHED -j DROP", through, 0},
		{drop, "-j TCPMSS --clamp-mss-to-pmtu", through, 0},
		{drop, "-j NFQUEUE --queue-num 0", "1 UNKNOWN 10.96.0.1:80 at filter FORWARD rule 1", 1},
		{drop, "-p udp -j NFQUEUE --queue-num 0", through, 0},
		{dnat, "-p tcp -m tcp --dport 80", "1 ACCEPT 10.0.0.9:8080", 0},
		{dnat, "-o eth7", through, 0},
		{dnat, "-m set --match-set x dst", "1 ACCEPT 10.0.0.9:8080 unsure, 1 ACCEPT 10.96.0.1:80 unsure", 1},
	} {
		host := Host{Out: func(netip.Addr) string { return "cni0" }}
		j := trace(t, fmt.Sprintf(c.text, c.rule), host, received("eth0"))
		if got := endsOf(j); got != c.want || len(j.Unknown) != c.unknown {
			t.Errorf("%s: ends as %s, %d not understood; want %s, %d", c.rule, got, len(j.Unknown), c.want, c.unknown)
		}
	}
}

// A client's port is not guessed: it is known only that it is no service's.
func TestTraceWithoutThePortOfTheClient(t *testing.T) {
	const text = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p tcp -m %s -j DROP\nCOMMIT\n"
	through, dropped := "1 ACCEPT 10.96.0.1:80", "1 DROP 10.96.0.1:80 at filter FORWARD rule 1"
	either := "1 ACCEPT 10.96.0.1:80 unsure, 1 DROP 10.96.0.1:80 unsure at filter FORWARD rule 1"
	p := received("eth0")
	p.Src = netip.AddrPortFrom(p.Src.Addr(), 0)
	for rule, want := range map[string]string{
		"tcp --sport 53":                          through,
		"tcp ! --sport 53":                        dropped,
		"tcp --sport 1024:65535":                  dropped,
		"tcp --sport 40000:50000":                 either,
		"tcp ! --sport 40000":                     either,
		"multiport --sports 53,123":               through,
		"multiport --sports 53,40000":             either,
		"multiport ! --sports 80,1000:65535":      through,
		"multiport --dports 80 -m tcp --sport 53": through,
	} {
		if got := endsOf(trace(t, fmt.Sprintf(text, rule), Host{}, p)); got != want {
			t.Errorf("%s: %s, want %s", rule, got, want)
		}
	}
}

// What is not known of the packet is no reason to guess either.
func TestTraceWithoutInterfaces(t *testing.T) {
	const text = "*filter\n:FORWARD ACCEPT [0:0]\n:A - [0:0]\n-A FORWARD %s -j %s\n-A A -j RETURN\nCOMMIT\n"
	for _, c := range []struct{ rule, target, want string }{
		{"-i eth0", "DROP", "1 ACCEPT 10.96.0.1:80 unsure, 1 DROP 10.96.0.1:80 unsure at filter FORWARD rule 1"},
		{"-o eth0", "DROP", "1 ACCEPT 10.96.0.1:80 unsure, 1 DROP 10.96.0.1:80 unsure at filter FORWARD rule 1"},
		{"-i eth0", "A", "1 ACCEPT 10.96.0.1:80"},
		{"-i eth0 -d 10.0.0.1/32", "DROP", "1 ACCEPT 10.96.0.1:80"},
	} {
		if got := endsOf(trace(t, fmt.Sprintf(text, c.rule, c.target), Host{}, received(""))); got != c.want {
			t.Errorf("%s -j %s: %s, want %s", c.rule, c.target, got, c.want)
		}
	}
}

// Many rules that may match do not make more branches than there are ways to end.
func TestTraceOfManyUnknownRulesEnds(t *testing.T) {
	var b strings.Builder
	b.WriteString("*filter\n:FORWARD ACCEPT [0:0]\n")
	for range 200 {
		b.WriteString("-A FORWARD -m set --match-set x src -j MARK --set-xmark 0x1/0x1\n-A FORWARD -m set --match-set y src -j DROP\n")
	}
	b.WriteString("COMMIT\n")
	j := trace(t, b.String(), Host{}, received("eth0"))
	if len(j.Unknown) != 400 || len(j.Ends) > 300 {
		t.Errorf("%d not understood, %d ends", len(j.Unknown), len(j.Ends))
	}
}

// The tables that svcproxy does not write count as well.
func TestTraceThroughAllTables(t *testing.T) {
	const nat = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.9:80\nCOMMIT\n"
	for _, c := range []struct{ text, want string }{
		{"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DROP\nCOMMIT\n", "1 DROP 10.96.0.1:80 at raw PREROUTING rule 1"},
		{"*mangle\n:PREROUTING DROP [0:0]\nCOMMIT\n", "1 DROP 10.96.0.1:80 at the policy of mangle PREROUTING"},
		{"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j CT --notrack\nCOMMIT\n" + nat, "1 ACCEPT 10.96.0.1:80"},
		{"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -j NOTRACK\nCOMMIT\n" + nat, "1 ACCEPT 10.0.0.9:80"},
		{"*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -d 10.0.0.9/32 -j DROP\nCOMMIT\n" + nat, "1 DROP 10.0.0.9:80 at mangle FORWARD rule 1"},
		{"*security\n:FORWARD ACCEPT [0:0]\n-A FORWARD -d 10.0.0.9/32 -j DROP\nCOMMIT\n" + nat, "1 DROP 10.0.0.9:80 at security FORWARD rule 1"},
	} {
		if got := endsOf(trace(t, c.text, Host{}, received("eth0"))); got != c.want {
			t.Errorf("%s: %s, want %s", c.text, got, c.want)
		}
	}
}

// A packet that the node sends to itself comes in again, by the loopback interface.
func TestTraceComesBackByLoopback(t *testing.T) {
	own := netip.MustParseAddr("10.96.0.1")
	p := received("")
	p.FromNode = true
	const text = "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING %s-i lo -j DROP\nCOMMIT\n"
	for rule, want := range map[string]string{
		"! ": "1 ACCEPT 10.96.0.1:80",
		"":   "1 DROP 10.96.0.1:80 at mangle PREROUTING rule 1",
	} {
		if got := endsOf(trace(t, fmt.Sprintf(text, rule), Host{Addresses: []netip.Addr{own}}, p)); got != want {
			t.Errorf("mangle %s-i lo: %s, want %s", rule, got, want)
		}
	}
}

// Of a connection that conntrack knows nat is not asked: what it did stays.
func TestTraceOfAnEstablishedConnection(t *testing.T) {
	save := saved(t, Build(snapshot(clusterService(IPv4, "web", 1, 1, 2)), testConfig(IPv4)))
	p := toService(IPv4, 1, TCP, 80)
	p.FromNode, p.In = false, "eth0"
	gone := netip.MustParseAddrPort("10.21.0.200:8080")
	p.Tracked = &Tracked{Dst: gone, Masqueraded: true}
	j, err := Trace([]Layer{{Save: save}}, Host{}, p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := endsOf(j), "1 ACCEPT 10.21.0.200:8080 masqueraded"; got != want {
		t.Errorf("ends as %s, want %s", got, want)
	}
	for _, passage := range j.Passages {
		if passage.Table == Nat {
			t.Errorf("nat %s was asked", passage.Chain)
		}
	}
}

// The kernel applies the rules of both backends. nat rewrites a packet once.
func TestTraceThroughTwoBackends(t *testing.T) {
	nat := func(to string) *Save {
		return readSave(t, "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j DNAT --to-destination "+to+"\nCOMMIT\n")
	}
	drop := readSave(t, "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -d 10.0.0.2/32 -j DROP\nCOMMIT\n")
	for _, c := range []struct {
		a, b *Save
		want string
	}{
		{nat("10.0.0.1:80"), nat("10.0.0.2:80"), "1 ACCEPT 10.0.0.1:80"},
		{nat("10.0.0.2:80"), drop, "1 DROP 10.0.0.2:80 at filter FORWARD rule 1"},
		{drop, nat("10.0.0.2:80"), "1 DROP 10.0.0.2:80 at filter FORWARD rule 1"},
	} {
		j, err := Trace([]Layer{{"nft", c.a}, {"legacy", c.b}}, Host{}, received("eth0"))
		if err != nil {
			t.Fatal(err)
		}
		if got := endsOf(j); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// A packet meets a handful of chains: the others are not read.
func TestTraceReadsOnlyWhatAPacketMeets(t *testing.T) {
	var services []*Service
	for i := range 500 {
		services = append(services, clusterService(IPv4, fmt.Sprintf("s%03d", i), i, 2*i, 2*i+1))
	}
	save := saved(t, Build(snapshot(services...), testConfig(IPv4)))
	j, err := Trace([]Layer{{Save: save}}, Host{}, toService(IPv4, 77, TCP, 80))
	if err != nil || len(j.Ends) != 2 {
		t.Fatalf("%d ends, %v", len(j.Ends), err)
	}
	read, all := 0, 0
	for _, table := range save.tables {
		for _, c := range table.chains {
			all++
			if len(c.Rules) > 0 {
				read++
			}
		}
	}
	if all < 1500 || read > 30 {
		t.Errorf("%d of %d chains were read", read, all)
	}
}

// iptables-nft prints a rule that it has no words for as one that says nothing.
func TestTraceOfARuleWithoutWords(t *testing.T) {
	const text = "# Generated by iptables-save v1.8.9 (%s) on Sun Nov 29 12:00:00 2026\n*filter\n:FORWARD ACCEPT [0:0]\n[0:0] -A FORWARD\nCOMMIT\n"
	for backend, want := range map[string]string{
		"nf_tables": "1 ACCEPT 10.96.0.1:80 unsure, 1 UNKNOWN 10.96.0.1:80 unsure at filter FORWARD rule 1",
		"legacy":    "1 ACCEPT 10.96.0.1:80",
	} {
		if got := endsOf(trace(t, fmt.Sprintf(text, backend), Host{}, received("eth0"))); got != want {
			t.Errorf("%s: %s, want %s", backend, got, want)
		}
	}
}

func TestSaveHasCounters(t *testing.T) {
	const text = "# Generated by iptables-save\n*nat\n:OUTPUT ACCEPT [5:300]\n:A - [0:0]\n[7:420] -A OUTPUT -j A\n[3:180] -A A -d 10.0.0.1/32 -j RETURN\n[4:240] -A A -j RETURN\nCOMMIT\n"
	save := readSave(t, text)
	c, err := save.Chain(Nat, "A")
	if err != nil {
		t.Fatal(err)
	}
	if want := []Counters{{3, 180}, {4, 240}}; !slices.Equal(c.Counters, want) || c.Specs[0] != "-d 10.0.0.1/32 -j RETURN" {
		t.Errorf("counters %v, want %v; %q", c.Counters, want, c.Specs)
	}
	if n := save.Rules(); n != 3 {
		t.Errorf("%d rules, want 3", n)
	}
	if c, err := save.Chain(Nat, "B"); c != nil || err != nil {
		t.Errorf("a chain that is not there: %v, %v", c, err)
	}
}
