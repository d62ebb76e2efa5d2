package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// traced runs trace and returns its JSON form.
func traced(t *testing.T, stdin string, args ...string) *traceReport {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{"trace", "-o", "json"}, args...)
	if status := run(context.Background(), args, strings.NewReader(stdin), &stdout, &stderr); status != 0 {
		t.Fatalf("%v: status %d: %s", args, status, &stderr)
	}
	out := &traceReport{}
	d := json.NewDecoder(&stdout)
	if err := d.Decode(out); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

// The command says of saved rules, kube-proxy's and ours, what Walk says of them, and
// of the rules for objects the same without a save: for a destination of each Service.
func TestTraceCommandOnEveryCase(t *testing.T) {
	paths, err := filepath.Glob("testdata/kube-proxy/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { traceCase(t, path) })
	}
}

func traceCase(t *testing.T, path string) {
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := kubeProxyCase{archive: a, objects: readObjects(t, section(a, "objects.yaml"))}
	dir := t.TempDir()
	objects := filepath.Join(dir, "objects.yaml")
	write(t, objects, section(a, "objects.yaml"))
	flags := append(strings.Fields(lastLine(string(a.Comment))), "--hostname-override", c.objects.node.Name)
	for _, f := range rules.Families() {
		ours := c.dryRun(t, f)
		peer := section(a, saveCommand(f))
		write(t, filepath.Join(dir, "ours"), ours)
		write(t, filepath.Join(dir, "peer"), peer)
		for _, to := range c.objects.destinations(f)[:min(4, len(c.objects.destinations(f)))] {
			base := append(slices.Clone(flags), "--to", to.addr.String(), "--proto", string(to.protocol), "--from", known(f).outside.String(), "--in", "eth0")
			position := position{name: "outside", in: "eth0", src: known(f).outside}
			check := func(text []byte, more ...string) {
				t.Helper()
				want := walkAll(t, text, f, c.objects.nodeAddresses(), []flow{{to, position}}).words[0]
				report := traced(t, "", append(slices.Clone(base), more...)...)
				if got := tracedWords(&report.Journey, to.addr); got != want {
					t.Errorf("%v: %s, want %s", more, got, want)
				}
			}
			check(ours, "-f", objects)
			check(ours, "-f", objects, "--rules", filepath.Join(dir, "ours"))
			check(peer, "-f", objects, "--rules", filepath.Join(dir, "peer"))
		}
	}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestParseTo(t *testing.T) {
	for text, want := range map[string]string{
		"web":                          "web ",
		"ns/web":                       "ns/web ",
		"ns/web:80":                    "ns/web 80",
		"ns/web:http":                  "ns/web http",
		"web.ns":                       "ns/web ",
		"web.ns.svc":                   "ns/web ",
		"web.ns.svc.cluster.local.:53": "ns/web 53",
		"10.96.0.1:80":                 "10.96.0.1 80",
		"10.96.0.1":                    "10.96.0.1 ",
		"[fd00::1]:80":                 "fd00::1 80",
		"fd00::1":                      "fd00::1 ",
		"[::ffff:10.96.0.1]:80":        "10.96.0.1 80",
	} {
		to, err := parseTo(text)
		got := to.String()
		if to.addr.IsValid() {
			got = to.addr.String()
		}
		if got += " " + to.port; err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "/web", "ns/", "ns/web:", "ns/web:0", "ns/web:70000", "a/b/c", "www.example.org", "10.96.0.1:0", "10.96.0.1:x", "NS/Web", "web:-", "web.", "."} {
		if to, err := parseTo(text); err == nil {
			t.Errorf("%q is taken for %+v", text, to)
		}
	}
}

func TestParseFrom(t *testing.T) {
	for _, text := range []string{"node", "10.21.1.2", "fd00::1", "pod/client", "pod/ns/client", "pod/ns/a.b"} {
		if _, err := parseFrom(text); err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{"", "pod/", "pod/ns/", "pod//x", "client", "10.21.1.2:80", "pod/a/b/c"} {
		if from, err := parseFrom(text); err == nil {
			t.Errorf("%q is taken for %+v", text, from)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"shop/cart", "shop/card", "shop/checkout", "kube-system/kube-dns", "shop/cart-admin"}
	for name, want := range map[string]string{
		"shop/cart":            "shop/cart shop/card shop/cart-admin",
		"shop/chekout":         "shop/checkout",
		"kube-system/kube-dsn": "kube-system/kube-dns",
		"nothing/alike":        "",
	} {
		if got := strings.Join(nearest(name, names), " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestTraceUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"argument"}, {"--to", "a b"}, {"--to", "ns/web", "--from", "x"}, {"--to", "ns/web", "--proto", "icmp"},
		{"--to", "ns/web", "-o", "yaml"}, {"--to", "ns/web", "--rules", "-", "-f", "-"}, {"--to", "ns/web", "--rules", "objects"},
		{"--to", "10.96.0.1:80", "--rules", "testdata/trace/empty.save", "--from", "fd00::1"}, {"--no-such-flag"},
		{"--to", "10.96.0.1:80", "--rules", "testdata/trace/empty.save", "--in", "eth0"},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(context.Background(), append([]string{"trace"}, args...), strings.NewReader(""), &stdout, &stderr); status != 2 || stdout.Len() > 0 {
			t.Errorf("%v: status %d, stdout %q, stderr %q", args, status, &stdout, &stderr)
		}
	}
}

// dryRunSave returns a file with the rules that a dry run prints.
func dryRunSave(t *testing.T, flags ...string) string {
	t.Helper()
	status, dump, stderr := cli(append([]string{"--dry-run"}, flags...)...)
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	save := filepath.Join(t.TempDir(), "save")
	write(t, save, []byte(dump))
	return save
}

// Rules that are as the objects ask for are told as those that svcproxy would write,
// wherever the packet comes from: no difference between the two is made up.
func TestTraceOfRulesAsWanted(t *testing.T) {
	objects := []string{"-f", "testdata/trace/shop.yaml", "--hostname-override=here", "--cluster-cidr=10.21.0.0/16"}
	save := dryRunSave(t, append([]string{"--ip-family=ipv4"}, objects...)...)
	for _, args := range [][]string{
		{"--to", "shop/cart:http"},
		{"--to", "shop/cart:http", "--from", "pod/cart-a"},
		{"--to", "10.250.0.2:30443", "--from", "198.51.100.9", "--in", "eth0"},
		{"--to", "10.250.0.2:30443"},
		{"--to", "203.0.113.5:443", "--from", "203.0.113.77", "--in", "eth0"},
		{"--to", "shop/checkout", "--from", "198.51.100.9", "--in", "eth0"},
	} {
		wanted := traced(t, "", slices.Concat(objects, args)...)
		saved := traced(t, "", slices.Concat(objects, args, []string{"--rules", save})...)
		if wanted.Sentence != saved.Sentence || !slices.Equal(codes(wanted), codes(saved)) {
			t.Errorf("%v: by the save %v: %s\nby the objects %v: %s", args, codes(saved), saved.Sentence, codes(wanted), wanted.Sentence)
		}
	}
}

// A name is looked for in the family that the save is of.
func TestTraceByNameInASaveOfIPv6(t *testing.T) {
	save := filepath.Join(t.TempDir(), "save")
	write(t, save, []byte(`*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
-A OUTPUT -j KUBE-SERVICES
-A KUBE-SERVICES -d fd00:96::10/128 -p tcp -m comment --comment "shop/cart:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -p tcp -j DNAT --to-destination [fd00:21::5]:8080
COMMIT
`))
	if r := traced(t, "", "--rules", save, "--to", "shop/cart"); r.Arrives != arrivesYes || r.Ends[0].Dst.String() != "[fd00:21::5]:8080" {
		t.Errorf("%+v: %s", r.Ends, r.Sentence)
	}
}

// A load balancer's address that is the node's own, as k3s gives them, keeps neither
// node ports nor the node's other ports from being what they are. A port that is
// somebody's node port is none on an address that is not the node's.
func TestTraceToTheNodesAddress(t *testing.T) {
	objects := filepath.Join(t.TempDir(), "objects.yaml")
	write(t, objects, []byte(`
{apiVersion: v1, kind: Node, metadata: {name: here}, status: {addresses: [{type: InternalIP, address: 10.250.0.2}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: front}, spec: {type: LoadBalancer, clusterIP: 10.96.0.1,
  ports: [{name: web, port: 80, nodePort: 31080}, {name: dns, port: 53, protocol: UDP, nodePort: 31053}]},
  status: {loadBalancer: {ingress: [{ip: 10.250.0.2}]}}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: shop, name: front-1, labels: {kubernetes.io/service-name: front}},
  addressType: IPv4, ports: [{name: web, port: 8080}, {name: dns, port: 53, protocol: UDP}], endpoints: [{addresses: [10.21.1.5]}]}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: plain}, spec: {type: NodePort, clusterIP: 10.96.0.2, ports: [{port: 90, nodePort: 30090}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: shop, name: plain-1, labels: {kubernetes.io/service-name: plain}},
  addressType: IPv4, ports: [{port: 9090}], endpoints: [{addresses: [10.21.1.6]}]}
`))
	for to, want := range map[string]string{
		"10.250.0.2:80":    "shop/front loadbalancer IP tcp yes []",
		"10.250.0.2:31080": "shop/front node port tcp yes []",
		"10.250.0.2:31053": "shop/front node port udp yes []",
		"10.250.0.2:30090": "shop/plain node port tcp yes []",
		"10.250.0.2:22":    "shop/front loadbalancer IP tcp yes []",
		"192.0.2.99:30090": "  tcp yes []",
		"10.96.0.1:30090":  "shop/front cluster IP tcp no [port-not-defined]",
	} {
		r := traced(t, "", "-f", objects, "--hostname-override=here", "--from=198.51.100.9", "--in=eth0", "--to", to)
		if got := fmt.Sprintf("%s %s %s %s %v", r.To.Service, r.To.Role, r.Protocol, r.Arrives, codes(r)); got != want {
			t.Errorf("%s: %s, want %s; %s", to, got, want, r.Sentence)
		}
	}
}

// A rule of others that drops what was to be rewritten before it is not at fault alone
// where the rules that rewrite are missing. One that comes before these is.
func TestTraceOfMissingRulesBeforeADrop(t *testing.T) {
	for text, want := range map[string][]string{
		"*filter\n:FORWARD DROP [0:0]\n-A FORWARD -p icmp -j ACCEPT\nCOMMIT\n":    {codeRulesMissing, codePolicyDrop},
		"*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i cni0 -j DROP\nCOMMIT\n":    {codeRulesMissing, codeForeignDrop},
		"*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DROP\nCOMMIT\n":      {codeForeignDrop},
		"*raw\n:PREROUTING DROP [0:0]\n-A PREROUTING -p icmp -j ACCEPT\nCOMMIT\n": {codePolicyDrop},
	} {
		save := filepath.Join(t.TempDir(), "save")
		write(t, save, []byte(text))
		r := traced(t, "", append(slices.Clone(shop), "--rules", save, "--to", "shop/cart:http", "--from", "10.21.1.99", "--in", "cni0")...)
		if r.Arrives != arrivesNo || !slices.Equal(codes(r), want) {
			t.Errorf("%s%v, want %v: %s", text, codes(r), want, r.Sentence)
		}
	}
}

// Where it is not known whether a rule stops further packets, that is not claimed.
func TestEstablishedClaimsNoMoreThanIsKnown(t *testing.T) {
	const text = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate NEW -j ACCEPT\n-A FORWARD %s\nCOMMIT\n"
	for rule, want := range map[string]string{
		"-j DROP":                                "but filter FORWARD rule 2 stops them.",
		"-m set --match-set bad src -j DROP":     "but filter FORWARD rule 2 may stop them.",
		"-j NFQUEUE --queue-num 0":               "but filter FORWARD rule 2 may stop them.",
		"-m set --match-set known src -j ACCEPT": "Further packets of the connection go the same way",
	} {
		save := filepath.Join(t.TempDir(), "save")
		write(t, save, fmt.Appendf(nil, text, rule))
		r := traced(t, "", "--rules", save, "--to", "10.21.2.5:80", "--from", "10.21.1.99", "--in", "cni0")
		if got := established(r.Established); !strings.Contains(got, want) {
			t.Errorf("%s: %s", rule, got)
		}
	}
}

// An endpoint that was reached and refuses the connection has been reached, whether a
// Service led there or not.
func TestTriedEndpointsAreReached(t *testing.T) {
	pod := netip.MustParseAddrPort("10.21.1.5:80")
	for _, to := range []netip.AddrPort{pod, netip.MustParseAddrPort("10.96.0.1:80")} {
		r := &traceReport{To: traceTarget{Addr: to}, Wire: &wireSection{Tries: []wireTry{{pod, tryRefused}}}}
		r.Ends = []rules.End{{Fate: rules.Fate{Verdict: rules.Accept, Dst: pod, Probability: 1}}}
		(&tracer{report: r}).explainTries()
		if r.conclude(); r.Arrives != arrivesYes || !strings.Contains(r.Sentence, " But 10.21.1.5:80 itself refuses connections") {
			t.Errorf("to %s: %s: %s", to, r.Arrives, r.Sentence)
		}
	}
}

// What is wrong with rules that lead to an endpoint all the same is not why the packet
// does not arrive, where something else stops it there; and is told where nothing does.
func TestRulesThatLeadOnAreNotAtFault(t *testing.T) {
	to, pod := netip.MustParseAddrPort("10.96.0.1:80"), netip.MustParseAddrPort("10.21.1.5:80")
	for _, c := range []struct{ verdict, stops, want string }{
		{rules.Drop, codeForeignDrop, "It does not arrive: it is " + codeForeignDrop},
		{rules.Accept, "", " But it is " + codeQuarantined},
	} {
		r := &traceReport{To: traceTarget{Addr: to}, but: true}
		r.Ends = []rules.End{{Fate: rules.Fate{Verdict: c.verdict, Dst: pod, Probability: 1}}}
		for _, code := range []string{codeQuarantined, codeRulesDiffer, c.stops} {
			if code != "" {
				r.because(code, "it is "+code)
			}
		}
		if r.conclude(); !strings.Contains(r.Sentence, c.want) {
			t.Errorf("%s: %v: %s", c.verdict, codes(r), r.Sentence)
		}
	}
}

// A pod of another node goes by the rules of that one.
func TestTraceFromAPodElsewhere(t *testing.T) {
	pods := filepath.Join(t.TempDir(), "pods.yaml")
	write(t, pods, []byte(`
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: near}, spec: {nodeName: here}, status: {podIP: 10.21.1.7}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: far}, spec: {nodeName: there}, status: {podIP: 10.21.2.7}}
`))
	for pod, want := range map[string]bool{"pod/near": false, "pod/far": true} {
		r := traced(t, "", append(slices.Clone(shop), "-f", pods, "--to", "shop/cart:http", "--from", pod)...)
		if got := strings.Contains(strings.Join(r.Remarks, " "), "runs on node there, whose rules its packets go by; these are the rules of here"); got != want {
			t.Errorf("%s: %q", pod, r.Remarks)
		}
	}
}

// The command that shows a table has the name of its family.
func TestTraceOfAnUnreadableTable(t *testing.T) {
	for to, want := range map[string]string{"10.96.0.10:80": "nft list table ip nat", "[fd00:96::10]:80": "nft list table ip6 nat"} {
		save := filepath.Join(t.TempDir(), "save")
		tool := "iptables"
		if to[0] == '[' {
			tool = "ip6tables"
		}
		write(t, save, fmt.Appendf(nil, "# Generated by %s-save v1.8.9 (nf_tables)\n# Table `nat' is incompatible, use 'nft' tool.\n*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p icmp -j DROP\nCOMMIT\n", tool))
		r := traced(t, "", "--rules", save, "--to", to)
		if !slices.Equal(codes(r), []string{codeUnreadable}) || !slices.Equal(r.Reasons[0].Look, []string{want}) || r.Arrives != arrivesUnknown {
			t.Errorf("to %s: %s %+v", to, r.Arrives, r.Reasons)
		}
	}
}

// Where the order of the backends decides whether a packet arrives, it is not said that
// it does not.
func TestTraceThroughBackendsInEitherOrder(t *testing.T) {
	layer := func(text string) rules.Layer {
		save, err := rules.ReadSave(text, rules.IPv4)
		if err != nil {
			t.Fatal(err)
		}
		return rules.Layer{Save: save}
	}
	const nat = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j DNAT --to-destination 10.21.1.%d:80\nCOMMIT\n"
	const drop = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -d %s -j DROP\nCOMMIT\n"
	for dropped, want := range map[string]string{
		"10.21.1.1/32": arrivesUnknown, "10.21.1.2/32": arrivesUnknown, "10.21.1.3/32": arrivesUnknown, "10.21.1.0/24": arrivesNo,
	} {
		tr := &tracer{report: &traceReport{Protocol: rules.TCP, To: traceTarget{Addr: netip.MustParseAddrPort("10.96.0.1:80")}}}
		tr.report.From = traceOrigin{Kind: fromElsewhere, Addr: netip.MustParseAddr("10.21.3.3")}
		tr.layers = []rules.Layer{layer(fmt.Sprintf(nat+drop, 1, dropped)), layer(fmt.Sprintf(nat, 2))}
		if err := tr.walk(); err != nil {
			t.Fatal(err)
		}
		if tr.report.conclude(); tr.report.Arrives != want {
			t.Errorf("%s: %s, want %s", dropped, tr.report.Arrives, want)
		}
	}
}

// What of a Service cannot be used is said where its packets are looked at.
func TestTraceTellsWhatIsWrongWithTheService(t *testing.T) {
	objects := filepath.Join(t.TempDir(), "objects.yaml")
	write(t, objects, []byte(`
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: web}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}},
  addressType: IPv4, ports: [{port: 8080}], endpoints: [{addresses: [127.0.0.1]}]}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: other}, spec: {clusterIP: 10.96.0.2, ports: [{port: 0}]}}
`))
	r := traced(t, "", "-f", objects, "--hostname-override=here", "--node-ip=10.250.0.2", "--to", "shop/web")
	if len(r.Remarks) != 1 || !strings.HasPrefix(r.Remarks[0], "shop/web-1 endpoints[0].addresses[0]: 127.0.0.1: ") {
		t.Errorf("%q, %v: %s", r.Remarks, codes(r), r.Sentence)
	}
}

// A node port is not found in saved rules without the node's address, which is said.
func TestTraceOfASaveOfAnUnknownNode(t *testing.T) {
	save := dryRunSave(t, shop...)
	for _, c := range []struct {
		args    []string
		role    string
		unknown bool
	}{
		{[]string{"--to=10.250.0.2:30443", "--from=198.51.100.9"}, "", true},
		{[]string{"--to=10.250.0.2:30443", "--from=198.51.100.9", "--node-ip=10.250.0.2"}, roleNodePort, false},
		{[]string{"--to=10.96.0.10:80", "--from=198.51.100.9"}, roleClusterIP, false},
		{[]string{"--to=10.96.0.10:80"}, roleClusterIP, true},
	} {
		r := traced(t, "", append([]string{"--rules", save}, c.args...)...)
		if unknown := strings.Contains(strings.Join(r.Remarks, " "), "give --node-ip"); unknown != c.unknown || r.To.Role != c.role {
			t.Errorf("%v: %q, %q: %s", c.args, r.To.Role, r.Remarks, r.Sentence)
		}
	}
}

// What is proposed as --to is taken, and names a port that is there.
func TestTraceProposesAPort(t *testing.T) {
	save := filepath.Join(t.TempDir(), "save")
	write(t, save, []byte("*nat\n:KUBE-SERVICES - [0:0]\n"+
		"-A KUBE-SERVICES -d fd00:96::10/128 -p udp -m comment --comment \"shop/dns:dns cluster IP\" -m udp --dport 53 -j KUBE-SVC-A\n"+
		"-A KUBE-SERVICES -d fd00:96::10/128 -p tcp -m comment --comment \"shop/dns:dns-tcp cluster IP\" -m tcp --dport 53 -j KUBE-SVC-B\nCOMMIT\n"))
	for to, want := range map[string]string{
		"fd00:96::77": "--to fd00:96::77: say which port, as in --to [fd00:96::77]:80\n",
		"fd00:96::10": "--to fd00:96::10: say which port, as in --to [fd00:96::10]:53; it has 53/udp, 53/tcp\n",
		"shop/dns":    "--to shop/dns: say which port, as in --to shop/dns:53; it has 53/udp, 53/tcp\n",
	} {
		if status, _, stderr := cli("trace", "--rules", save, "--to", to); status != 1 || !strings.HasSuffix(stderr, want) {
			t.Errorf("status %d: %s, want %s", status, stderr, want)
		}
	}
}

// A flow to an endpoint that terminates and still serves is in order; one to nobody's
// address is stale, over SCTP as well.
func TestTraceOfFlowsThatGoOn(t *testing.T) {
	vip, ready := netip.MustParseAddrPort("10.96.0.1:53"), netip.MustParseAddrPort("10.21.1.5:53")
	draining, gone := netip.MustParseAddrPort("10.21.1.6:53"), netip.MustParseAddrPort("10.21.1.7:53")
	client := netip.MustParseAddrPort("10.21.2.9:4711")
	for _, c := range []struct {
		protocol rules.Protocol
		server   netip.AddrPort
		stale    bool
	}{{rules.UDP, ready, false}, {rules.UDP, draining, false}, {rules.UDP, gone, true}, {rules.SCTP, gone, true}, {rules.TCP, gone, false}} {
		svc := &rules.Service{Namespace: "shop", Name: "dns", ClusterIPs: []netip.Addr{vip.Addr()}, Ports: []rules.ServicePort{{
			Protocol: c.protocol, Port: 53, Endpoints: []rules.Endpoint{{Addr: ready, Ready: true, Serving: true}, {Addr: draining, Serving: true, Terminating: true}},
		}}}
		r := &traceReport{Protocol: c.protocol, To: traceTarget{Addr: vip}, Wire: &wireSection{Connections: []kernel.Connection{{Src: client, Dst: vip, Server: c.server, Client: client}}}}
		r.Ends = []rules.End{{Fate: rules.Fate{Verdict: rules.Accept, Dst: ready, Probability: 1}}}
		(&tracer{options: configured(t), snap: &rules.Snapshot{Services: []*rules.Service{svc}}, report: r}).explainStale()
		if stale := slices.Contains(codes(r), string(kernel.StaleConntrack)); stale != c.stale {
			t.Errorf("%s to %s: stale: %v", c.protocol, c.server, stale)
		}
	}
}

// In svcproxy's pod the Node's name is known without a flag.
func TestTheNodesNameIsThatOfThePod(t *testing.T) {
	t.Setenv("NODE_NAME", "there")
	for flag, want := range map[string]string{"": "there", "--hostname-override=here": "here"} {
		args := []string{"-f", "testdata/trace/shop.yaml", "--to", "shop/cart:http"}
		if flag != "" {
			args = append(args, flag)
		}
		if r := traced(t, "", args...); r.From.Name != want {
			t.Errorf("%q: the node is %q, want %q", flag, r.From.Name, want)
		}
	}
}

// Objects from standard input are as good as those in files.
func TestTraceReadsObjectsFromStdin(t *testing.T) {
	args := []string{"--hostname-override=here", "--cluster-cidr=10.21.0.0/16", "--to", "shop/cart:http"}
	want := traced(t, "", append([]string{"-f", "testdata/trace/shop.yaml"}, args...)...)
	got := traced(t, string(shopList(t)), append([]string{"-f", "-"}, args...)...)
	if got.Sentence != want.Sentence || len(got.Passages) != len(want.Passages) {
		t.Errorf("%s, want %s", got.Sentence, want.Sentence)
	}
}
