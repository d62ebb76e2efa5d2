package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"svcproxy/pkg/rules"
)

var config = rules.Config{
	Family: rules.IPv4, MasqueradeMark: 0x4000, NodePorts: rules.NodePortAddresses{Ranges: []netip.Prefix{rules.IPv4.All()}},
}

var node = rules.Node{Name: "here", Addresses: []netip.Addr{netip.MustParseAddr("10.250.0.2")}}

// web is a Service with n endpoints, each third of which is on the node.
func web(n int) *rules.Service {
	port := rules.ServicePort{Name: "http", Protocol: rules.TCP, Port: 80}
	for i := range n {
		e := rules.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 21, byte(i >> 8), byte(i)}), 8080), NodeName: "other", Ready: true, Serving: true}
		if i%3 == 0 {
			e.NodeName = "here"
		}
		port.Endpoints = append(port.Endpoints, e)
	}
	slices.SortFunc(port.Endpoints, func(a, b rules.Endpoint) int { return strings.Compare(a.Addr.String(), b.Addr.String()) })
	return &rules.Service{Namespace: "ns", Name: "web", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []rules.ServicePort{port}}
}

func describe(svc *rules.Service) Service {
	return Describe(svc, []InForce{{Config: &config, Node: &node, Service: svc}})
}

// counters are those of rules that Build made, as a test sets them.
type counters struct {
	nat     *rules.Table
	packets map[string]uint64 // by "chain to"
}

func (c *counters) each(_, chain string, f func(string, uint64)) error {
	if found := c.nat.Chain(chain); found != nil {
		for i := range found.Rules {
			if to := found.Rules[i].Jump(); to != "" {
				f(to, c.packets[chain+" "+to])
			}
		}
	}
	return nil
}

func built(svc *rules.Service) *rules.Ruleset {
	return rules.Build(&rules.Snapshot{Node: node, Services: []*rules.Service{svc}}, config)
}

func ptr[T any](v T) *T { return &v }

func TestSharesAndConnections(t *testing.T) {
	s := describe(web(3))
	c := &counters{built(web(3)).Table(rules.Nat), map[string]uint64{}}
	p := &s.Ports[0]
	for i, n := range []uint64{10, 30, 60} {
		c.packets[p.Balances[0].Chain+" "+p.Endpoints[i].Chain] = n
	}
	if err := s.Measure(c.each); err != nil {
		t.Fatal(err)
	}
	want := []Share{
		{PolicyCluster, 1. / 3, ptr(0.1), ptr[uint64](10)},
		{PolicyCluster, 1. / 3, ptr(0.3), ptr[uint64](30)},
		{PolicyCluster, 1. / 3, ptr(0.6), ptr[uint64](60)},
	}
	var got []Share
	for _, e := range p.Endpoints {
		got = append(got, e.Shares...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("shares (-want +got):\n%s", diff)
	}
	if n, known := s.Connections(); !known || n != 100 {
		t.Errorf("%d connections, known: %v", n, known)
	}
}

// Without connections nothing is measured, and that is not 0.
func TestNoConnectionsAreNoShare(t *testing.T) {
	s := describe(web(2))
	if err := s.Measure((&counters{built(web(2)).Table(rules.Nat), nil}).each); err != nil {
		t.Fatal(err)
	}
	for _, e := range s.Ports[0].Endpoints {
		if e.Shares[0].Measured != nil || *e.Shares[0].Connections != 0 {
			t.Errorf("%+v", e.Shares[0])
		}
	}
	if s.Ports[0].Absent() {
		t.Error("the chain is there")
	}
	if err := s.Measure((&counters{&rules.Table{}, nil}).each); err != nil || !s.Ports[0].Absent() || !s.Trouble() {
		t.Errorf("the kernel has no chain: absent %v, trouble %v, %v", s.Ports[0].Absent(), s.Trouble(), err)
	}
}

// The counters of a bucket may have begun later than those of others: its endpoints'
// parts are those of the bucket, not of what they have counted. With many buckets the
// same is true of groups of them.
func TestBucketsThatBeganLaterAreWeighed(t *testing.T) {
	for n, levels := range map[int]int{40: 2, 400: 3} {
		svc := web(n)
		s, nat := describe(svc), built(svc).Table(rules.Nat)
		c := &counters{nat, map[string]uint64{}}
		main := nat.Chain(s.Ports[0].Balances[0].Chain)
		if got := c.spread(main, 100000); got != n {
			t.Fatalf("the chains lead to %d endpoints, not to %d", got, n)
		}
		if got := depth(nat, main); got != levels {
			t.Fatalf("%d endpoints are %d levels deep, not %d", n, got, levels)
		}
		if err := s.Measure(c.each); err != nil {
			t.Fatal(err)
		}
		for _, e := range s.Ports[0].Endpoints {
			if sh := e.Shares[0]; math.Abs(*sh.Measured-1/float64(n)) > 1e-6 || math.Abs(sh.Wanted-1/float64(n)) > 1e-9 {
				t.Errorf("%s: wanted %v, measured %v", e.Address, sh.Wanted, *sh.Measured)
			}
		}
	}
}

// spread counts so many packets for each endpoint behind a chain, a part of them where
// the chain is the first of its kind, and returns how many endpoints there are.
func (c *counters) spread(chain *rules.Chain, each uint64) int {
	all := 0
	for i := range chain.Rules {
		to := c.nat.Chain(chain.Rules[i].Jump())
		n := 1
		if !strings.HasPrefix(to.Name, "KUBE-SEP-") {
			counted := each
			if i == 0 {
				counted = each / 100 // was written a moment ago
			}
			n = c.spread(to, counted)
		}
		c.packets[chain.Name+" "+to.Name] = each * uint64(n)
		all += n
	}
	return all
}

// depth is the number of chains on the way to an endpoint.
func depth(nat *rules.Table, chain *rules.Chain) int {
	to := nat.Chain(chain.Rules[0].Jump())
	if strings.HasPrefix(to.Name, "KUBE-SEP-") {
		return 1
	}
	return 1 + depth(nat, to)
}

// What is read from rules is what objects give, as far as rules say it.
func TestRulesTellWhatObjectsDo(t *testing.T) {
	external := web(3)
	external.ExternalTrafficLocal = true
	external.ExternalIPs = []netip.Addr{netip.MustParseAddr("198.51.100.7")}
	external.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("198.51.100.8")}
	external.RestrictSources, external.SourceRanges = true, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	external.Ports[0].NodePort = 30080
	elsewhere := web(3)
	elsewhere.ExternalTrafficLocal, elsewhere.Ports[0].NodePort = true, 30080
	for i := range elsewhere.Ports[0].Endpoints {
		elsewhere.Ports[0].Endpoints[i].NodeName = "other"
	}
	sticky := web(40)
	sticky.AffinitySeconds = 60
	for name, svc := range map[string]*rules.Service{
		"cluster IP": web(3), "many endpoints": web(40), "affinity": sticky, "no endpoints": web(0), "every address": external, "none here": elsewhere,
	} {
		t.Run(name, func(t *testing.T) {
			got, want := FromRules(built(svc)), describe(svc)
			want.Affinity, want.Internal, want.External = 0, "", ""
			for i := range want.Ports[0].Endpoints {
				want.Ports[0].Endpoints[i].Node, want.Ports[0].Endpoints[i].State = "", ""
			}
			opts := cmp.Options{
				cmpopts.EquateApprox(0, 1e-6), cmpopts.EquateEmpty(),
				cmpopts.SortSlices(func(a, b Endpoint) bool { return a.Address < b.Address }),
				cmpopts.SortSlices(func(a, b Address) bool { return a.Address < b.Address }),
				cmpopts.SortSlices(func(a, b Balance) bool { return a.Policy < b.Policy }),
				cmpopts.SortSlices(func(a, b Share) bool { return a.Policy < b.Policy }),
			}
			if diff := cmp.Diff([]Service{want}, got, opts); diff != "" {
				t.Errorf("(-objects +rules):\n%s", diff)
			}
		})
	}
}

// What an address is that is refused is told by who refuses it, or not at all.
func TestRolesOfRefusedAddresses(t *testing.T) {
	svc := web(0)
	svc.ExternalIPs, svc.Ports[0].NodePort = []netip.Addr{netip.MustParseAddr("198.51.100.7")}, 30080
	closed := web(3)
	closed.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("198.51.100.8")}
	closed.RestrictSources, closed.SourceRanges = true, []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	want := map[string]string{"10.96.0.1:80": "ClusterIP", "198.51.100.7:80": "", "198.51.100.8:80": "LoadBalancerIP", ":30080": "NodePort"}
	seen := 0
	for _, s := range []*rules.Service{svc, closed} {
		for _, a := range FromRules(built(s))[0].Ports[0].Addresses {
			if role, ok := want[a.Address]; !ok || a.Role != role {
				t.Errorf("%s is %q, want %q", a.Address, a.Role, role)
			}
			seen++
		}
	}
	if seen != 5 {
		t.Errorf("%d addresses", seen)
	}
}

// A port that is served at some addresses is not said to have no endpoint because it is
// refused at others.
func TestNotesOnRefusedAddresses(t *testing.T) {
	closed := web(3) // to everybody: its source ranges are of the other family
	closed.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr("198.51.100.8")}
	closed.RestrictSources, closed.SourceRanges = true, []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	elsewhere := web(3)
	elsewhere.InternalTrafficLocal, elsewhere.ExternalIPs = true, []netip.Addr{netip.MustParseAddr("198.51.100.7")}
	for i := range elsewhere.Ports[0].Endpoints {
		elsewhere.Ports[0].Endpoints[i].NodeName = "other"
	}
	for name, c := range map[string]struct {
		svc  *rules.Service
		want string
	}{
		"served":          {web(3), ""},
		"no endpoints":    {web(0), "no endpoint: refused"},
		"no source range": {closed, "refused at 198.51.100.8:80"},
		"none here":       {elsewhere, "refused at 10.96.0.1:80"},
	} {
		s := describe(c.svc)
		got := ""
		for _, n := range s.Notes(0, time.Now()) {
			got += n.Text
		}
		if got != c.want || s.Trouble() != (c.want != "") {
			t.Errorf("%s: %q, want %q; trouble: %v", name, got, c.want, s.Trouble())
		}
	}
	two := Port{Addresses: []Address{{Family: "IPv4", Address: ":30080"}, {Family: "IPv6", Address: ":30080", Refused: RefusedAll}}}
	if got := (&Service{Ports: []Port{two}}).Notes(0, time.Now()); len(got) != 1 || got[0].Text != "refused at node port 30080 over IPv6" {
		t.Errorf("%+v", got)
	}
}

// Above 10,000 endpoints rules do not say whose they are.
func TestServicesWithoutANameAreThere(t *testing.T) {
	svc := web(10001)
	got := FromRules(built(svc))
	if len(got) != 1 || got[0].Namespace != "" || "KUBE-SVC-"+got[0].Name != got[0].Ports[0].Balances[0].Chain {
		t.Fatalf("%+v", got[0].Name)
	}
	if n := len(got[0].Ports[0].Endpoints); n != 10001 {
		t.Errorf("%d endpoints", n)
	}
}

func TestMergeJoinsFamilies(t *testing.T) {
	port := func(f string) Port {
		return Port{Protocol: "tcp", Port: 80, Addresses: []Address{{Family: f}}}
	}
	a := []Service{{Namespace: "a", Name: "x", Ports: []Port{port("IPv4")}}, {Namespace: "b", Name: "y", Ports: []Port{port("IPv4")}}}
	b := []Service{{Namespace: "b", Name: "y", Ports: []Port{port("IPv6")}}, {Namespace: "c", Name: "z", Ports: []Port{port("IPv6")}}}
	got := Merge(a, b)
	if len(got) != 3 || len(got[1].Ports) != 1 || len(got[1].Ports[0].Addresses) != 2 {
		t.Errorf("%+v", got)
	}
}

func TestSince(t *testing.T) {
	at := func(n ...uint64) *Report {
		p := Port{Protocol: "tcp", Port: 80, Balances: []Balance{{Family: "IPv4", Policy: PolicyCluster, Connections: ptr[uint64](0)}}}
		for i, c := range n {
			p.Endpoints = append(p.Endpoints, Endpoint{Family: "IPv4", Address: fmt.Sprint(i), Shares: []Share{{Policy: PolicyCluster, Connections: ptr(c), Measured: ptr(0.5)}}})
			*p.Balances[0].Connections += c
		}
		return &Report{Services: []Service{{Namespace: "ns", Name: "web", Ports: []Port{p}}}}
	}
	tell := func(r *Report) string {
		p := r.Services[0].Ports[0]
		text := fmt.Sprint(*p.Balances[0].Connections)
		for _, e := range p.Endpoints {
			m := -1.0
			if e.Shares[0].Measured != nil {
				m = *e.Shares[0].Measured
			}
			text += fmt.Sprintf(" %d %v", *e.Shares[0].Connections, m)
		}
		return text
	}
	for _, c := range []struct {
		name        string
		before, now *Report
		want        string
	}{
		{"some more", at(10, 10), at(11, 13), "4 1 0.25 3 0.75"},
		{"none", at(10, 10), at(10, 10), "0 0 -1 0 -1"},
		{"a new endpoint", at(10), at(10, 2), "2 0 0 2 1"},
		{"counters that began anew", at(10, 10), at(1, 3), "4 1 0.5 3 0.5"},
		{"a new Service", &Report{}, at(1, 3), "4 1 0.5 3 0.5"},
	} {
		if got := tell(c.now.Since(c.before)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	now := at(11, 13)
	now.Since(at(10, 10))
	if got := tell(now); got != tell(at(11, 13)) {
		t.Errorf("the report itself was changed: %s", got)
	}
}

func TestQueriesGoThroughURLs(t *testing.T) {
	q := Query{
		Names: []Name{{"ns", "web"}, {"kube-system", ""}}, Search: "x&y", Trouble: true, Sort: ByChange, Offset: 3, Limit: 4, Counters: true, Flows: true,
	}
	got, err := ParseQuery(q.Values())
	if diff := cmp.Diff(q, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for text, want := range map[string]string{
		"limit=-1": `limit: "-1"`, "offset=x": `offset: "x"`, "sort=size": `sort: "size" is none of`, "trouble=perhaps": `trouble: "perhaps"`,
		"service=a/b/c": `service: "a/b/c"`, "service=/x": `service: "/x"`, "service=a/": `service: "a/"`, "colour=red": "colour: is not known",
	} {
		v, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseQuery(v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestQueryHas(t *testing.T) {
	for _, c := range []struct {
		q    Query
		name Name
		want bool
	}{
		{Query{}, Name{"ns", "web"}, true},
		{Query{Names: []Name{{"ns", ""}}}, Name{"ns", "web"}, true},
		{Query{Names: []Name{{"n", ""}}}, Name{"ns", "web"}, false},
		{Query{Names: []Name{{"ns", "we"}}}, Name{"ns", "web"}, false},
		{Query{Names: []Name{{"x", "y"}, {"ns", "web"}}}, Name{"ns", "web"}, true},
		{Query{Search: "s/w"}, Name{"ns", "web"}, true},
		{Query{Search: "s/w", Names: []Name{{"x", ""}}}, Name{"ns", "web"}, false},
	} {
		if got := c.q.Has(c.name.Namespace, c.name.Name); got != c.want {
			t.Errorf("%+v has %v: %v", c.q, c.name, got)
		}
	}
}

func TestMissedNamesHaveNeighbours(t *testing.T) {
	all := []Name{{"kube-system", "kube-dns"}, {"ns", "web"}, {"ns", "web-canary"}, {"other", "api"}}
	got := Missed([]Name{{"ns", "wbe"}, {"web", ""}, {"kube-sistem", ""}, {"ns", "api"}, {"ns", ""}, {"ns", "web"}, {"zzzzzz", "qqqqqq"}}, all)
	want := []Unknown{
		{"ns/wbe", []string{"ns/web"}}, {"web", []string{"ns/web"}}, {"kube-sistem", []string{"kube-system"}},
		{"ns/api", []string{"other/api"}}, {"zzzzzz/qqqqqq", nil},
	}
	got[1].Nearest = got[1].Nearest[:1]
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAReportIsWrittenAsItsValue(t *testing.T) {
	r := &Report{APIVersion: APIVersion, Node: Node{Name: "here", Now: time.Unix(1, 0).UTC()}, Selection: Selection{Total: 2}}
	for range 3 {
		var text bytes.Buffer
		if err := Write(&text, r); err != nil {
			t.Fatal(err)
		}
		var back Report
		if err := json.Unmarshal(text.Bytes(), &back); err != nil || !Complete(text.Bytes()) {
			t.Fatalf("%v: %s", err, &text)
		}
		if diff := cmp.Diff(r, &back, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-written +read):\n%s", diff)
		}
		for line := range bytes.Lines(text.Bytes()) {
			if bytes.HasPrefix(text.Bytes(), line) && Complete(line) {
				t.Errorf("what is cut off is complete: %s", line)
			}
		}
		if cut := bytes.TrimSuffix(text.Bytes(), []byte(end)); Complete(cut) {
			t.Errorf("what is cut off is complete: %s", cut)
		}
		r.Services = append(r.Services, describe(web(2)))
	}
}

func TestOwner(t *testing.T) {
	for chain, want := range map[string]string{
		"KUBE-SVC-CMGMSCGHDBTF4CTN": "CMGMSCGHDBTF4CTN", "KUBE-SVC-CMGMSCGHDBTF4CTN-1F": "CMGMSCGHDBTF4CTN", "KUBE-FW-CMGMSCGHDBTF4CTN": "CMGMSCGHDBTF4CTN",
		"KUBE-SEP-ADWVONN5J4AU467Y": "ADWVONN5J4AU467Y",
		"KUBE-SVC-IP-0A60":          "", "KUBE-SVC-IP-FD00001000960000ABCD": "", "KUBE-SERVICES": "", "KUBE-SVC-PROBE": "", "FORWARD": "",
	} {
		if got, ok := Owner(chain); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", chain, got, ok)
		}
	}
}
