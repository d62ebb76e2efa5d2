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
	snap := &Snapshot{Node: Node{Name: "here"}, Services: []*Service{
		{Namespace: "ns", Name: "a", HealthCheckNodePort: 30001, Ports: []ServicePort{
			{Port: 80, Endpoints: []Endpoint{ep("10.0.0.1:80", "here", true), ep("10.0.0.2:80", "there", true), ep("10.0.0.3:80", "here", false)}},
			{Port: 81, Endpoints: []Endpoint{ep("10.0.0.1:81", "here", true), ep("10.0.0.4:81", "here", true)}},
		}},
		{Namespace: "ns", Name: "b"},
		{Namespace: "ns", Name: "c", HealthCheckNodePort: 30001},
		{Namespace: "ns", Name: "d", HealthCheckNodePort: 30002},
	}}
	want := []HealthCheck{{"ns", "a", 30001, 2}, {"ns", "d", 30002, 0}}
	if got := HealthChecks(snap); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestListenAddresses(t *testing.T) {
	node := &Node{
		Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("fd00::1")},
		Primary:   []netip.Addr{netip.MustParseAddr("192.168.0.1")},
	}
	for _, test := range []struct {
		name  string
		ports NodePortAddresses
		want  []netip.Addr
	}{
		{"all", NodePortAddresses{Ranges: []netip.Prefix{IPv4.All()}}, []netip.Addr{netip.IPv4Unspecified()}},
		{"none", NodePortAddresses{}, nil},
		{"some", NodePortAddresses{Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/16")}}, node.Addresses[:1]},
		{"primary", NodePortAddresses{Primary: true}, node.Addresses[1:2]},
	} {
		if got := ListenAddresses(&Config{Family: IPv4, NodePorts: test.ports}, node); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}
