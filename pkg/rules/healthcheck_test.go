package rules

import (
	"net/netip"
	"reflect"
	"testing"
)

func TestHealthChecksCountLocalReadyAddresses(t *testing.T) {
	ep := func(addr, node string, ready bool) Endpoint {
		return Endpoint{Addr: netip.MustParseAddrPort(addr), NodeName: node, Ready: ready, Serving: true, Terminating: !ready}
	}
	ipv4, ipv6 := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00:96::1")
	snap := &Snapshot{Node: Node{Name: "here"}, Services: []*Service{
		{Namespace: "ns", Name: "a", HealthCheckNodePort: 30001, ClusterIPs: []netip.Addr{ipv4, ipv6}, Ports: []ServicePort{
			{Port: 80, Endpoints: []Endpoint{ep("10.0.0.1:80", "here", true), ep("10.0.0.2:80", "there", true), ep("10.0.0.3:80", "here", false), ep("[fd00::1]:80", "here", true)}},
			{Port: 81, Endpoints: []Endpoint{ep("10.0.0.1:81", "here", true), ep("10.0.0.4:81", "here", true), ep("[fd00::1]:81", "here", true)}},
		}},
		{Namespace: "ns", Name: "b", ClusterIPs: []netip.Addr{ipv4}},
		{Namespace: "ns", Name: "c", HealthCheckNodePort: 30001, ClusterIPs: []netip.Addr{ipv4}},
		{Namespace: "ns", Name: "d", HealthCheckNodePort: 30002, ClusterIPs: []netip.Addr{ipv4}},
	}}
	for f, want := range map[Family][]HealthCheck{
		IPv4: {{"ns", "a", 30001, 2}, {"ns", "d", 30002, 0}},
		IPv6: {{"ns", "a", 30001, 1}},
	} {
		if got := HealthChecks(snap, f); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", f, got, want)
		}
	}
}

func TestListenAddresses(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("fd00::1")}
	node := &Node{
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), own[1]}, // 10.0.0.2 is a gateway's, which leads here
		Primary:   own[1:2],
	}
	for _, test := range []struct {
		name  string
		ports NodePortAddresses
		want  []netip.Addr
	}{
		{"all", NodePortAddresses{Ranges: []netip.Prefix{IPv4.All()}}, []netip.Addr{netip.IPv4Unspecified()}},
		{"none", NodePortAddresses{}, nil},
		{"some", NodePortAddresses{Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/16")}}, own[:1]},
		{"primary", NodePortAddresses{Primary: true}, own[1:2]},
	} {
		asked := false
		got, err := ListenAddresses(&Config{Family: IPv4, NodePorts: test.ports}, node, func() ([]netip.Addr, error) {
			asked = true
			return own, nil
		})
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, %v, want %v", test.name, got, err, test.want)
		}
		if test.name == "all" && asked {
			t.Error("all are listened on, and the interfaces are looked at all the same")
		}
	}
}
