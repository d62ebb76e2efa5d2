package rules

import (
	"fmt"
	"net/netip"
	"testing"
)

// Both families go through the same tests: addresses are made from numbers.

func vipAddr(f Family, n int) netip.Addr {
	if f == IPv6 {
		return netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", n))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.96.%d.%d", n/250, n%250+1))
}

func podAddr(f Family, n int) netip.Addr {
	if f == IPv6 {
		return netip.MustParseAddr(fmt.Sprintf("fd00:10:21::%x", n))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.21.%d.%d", n/250, n%250+1))
}

func outsideAddr(f Family) netip.Addr {
	if f == IPv6 {
		return netip.MustParseAddr("2001:db8::7")
	}
	return netip.MustParseAddr("203.0.113.7")
}

func podCIDR(f Family) netip.Prefix {
	if f == IPv6 {
		return netip.MustParsePrefix("fd00:10:21::/48")
	}
	return netip.MustParsePrefix("10.21.0.0/16")
}

func testConfig(f Family) Config {
	return Config{
		Family: f, PodTraffic: PodTraffic{CIDR: podCIDR(f)},
		MasqueradeMark: 0x4000, DropInvalid: true, NodePorts: NodePortAddresses{Ranges: []netip.Prefix{f.All()}, Localhost: true},
	}
}

// clusterService is a Service on vip n with one port and n ready endpoints.
func clusterService(f Family, name string, vip int, eps ...int) *Service {
	s := &Service{Namespace: "ns", Name: name, ClusterIPs: []netip.Addr{vipAddr(f, vip)}}
	p := ServicePort{Protocol: TCP, Port: 80}
	for _, n := range eps {
		p.Endpoints = append(p.Endpoints, Endpoint{
			Addr: netip.AddrPortFrom(podAddr(f, n), 8080), NodeName: "other", Ready: true, Serving: true,
		})
	}
	s.Ports = []ServicePort{p}
	return s
}

func snapshot(svcs ...*Service) *Snapshot {
	return &Snapshot{Node: Node{Name: "here"}, Services: svcs}
}

// loaded returns the tables as the kernel would have them after the plan,
// starting from what it had; the jumps are in place.
func loaded(t *testing.T, want *Ruleset) []Table {
	t.Helper()
	text := RenderPlan(NewPlan(&Ruleset{}, want, 0))
	tables, err := ParseSave(text, want.Family)
	if err != nil {
		t.Fatalf("parse of our own text: %v\n%s", err, text)
	}
	return tables
}

func eachFamily(t *testing.T, test func(t *testing.T, f Family)) {
	t.Helper()
	for _, f := range Families() {
		t.Run(f.String(), func(t *testing.T) { test(t, f) })
	}
}

func walk(t *testing.T, tables []Table, p Packet) []Fate {
	t.Helper()
	fates, err := Walk(tables, Host{}, p)
	if err != nil {
		t.Fatal(err)
	}
	return fates
}
