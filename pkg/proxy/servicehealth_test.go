package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// freePort is a port that nobody listens on at the moment.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func TestServiceHealth(t *testing.T) {
	localhost := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	healthy := true
	h := newServiceHealth(func() bool { return healthy }, nil)
	t.Cleanup(h.close)
	port := freePort(t)
	ask := func() (status int, weight, body string) {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return 0, "", ""
		}
		defer func() { _ = resp.Body.Close() }()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header.Get("X-Load-Balancing-Endpoint-Weight"), strings.TrimSpace(string(text))
	}
	expect := func(endpoints int, want int) {
		t.Helper()
		if err := h.sync([]rules.HealthCheck{{Namespace: "ns", Name: "a", Port: port, LocalEndpoints: endpoints}}, localhost); err != nil {
			t.Fatal(err)
		}
		status, weight, body := ask()
		wantBody := fmt.Sprintf(`{"service":{"namespace":"ns","name":"a"},"localEndpoints":%d,"serviceProxyHealthy":%v}`, endpoints, healthy)
		if status != want || weight != fmt.Sprint(endpoints) || body != wantBody {
			t.Errorf("%d endpoints: %d, weight %s, %s; want %d, %s", endpoints, status, weight, body, want, wantBody)
		}
	}
	expect(2, http.StatusOK)
	expect(0, http.StatusServiceUnavailable)
	healthy = false
	expect(2, http.StatusServiceUnavailable)

	if err := h.sync(nil, localhost); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := ask(); status != 0 {
		t.Errorf("the port of a Service that is gone answers %d", status)
	}
}

// clusterOf is a cluster that a test has made up.
type clusterOf struct {
	source
	snap *rules.Snapshot
}

func (c clusterOf) Snapshot() (*rules.Snapshot, []watch.Problem) { return c.snap, nil }

// Health checks are answered where node ports are open, and these are on addresses of
// the kernel's, whatever the Node says; and a family that fails is nothing to the other.
func TestHealthChecksOfOneFamily(t *testing.T) {
	eps := []rules.Endpoint{
		{Addr: netip.MustParseAddrPort("10.21.0.1:80"), NodeName: "here", Ready: true},
		{Addr: netip.MustParseAddrPort("[fd00:21::1]:80"), NodeName: "here", Ready: true},
	}
	port := freePort(t)
	balanced := &rules.Service{
		Namespace: "ns", Name: "web", HealthCheckNodePort: port, ExternalTrafficLocal: true,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00:96::1")},
		Ports:      []rules.ServicePort{{Protocol: rules.TCP, Port: 80, NodePort: 30080, Endpoints: eps}},
	}
	src := clusterOf{source{make(chan struct{}, 1)}, &rules.Snapshot{
		Node:     rules.Node{Name: "here", Addresses: []netip.Addr{netip.MustParseAddr("10.250.0.1")}},
		Services: []*rules.Service{balanced},
	}}
	var families []Family
	for _, f := range rules.Families() {
		loopback := netip.MustParsePrefix("127.0.0.0/8")
		k := &fakeKernel{has: &rules.Ruleset{Family: f}, reads: make(chan struct{}, 100), applies: make(chan *rules.Plan, 100)}
		if f == rules.IPv6 {
			loopback, k.failures = netip.MustParsePrefix("::1/128"), 1000
		}
		families = append(families, Family{Config: rules.Config{Family: f, MasqueradeMark: 1, NodePorts: rules.NodePortAddresses{Ranges: []netip.Prefix{loopback}}}, Kernel: k})
	}
	p := New(src, families, Options{SyncPeriod: time.Hour, MinSyncPeriod: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	src.changed <- struct{}{}
	want := `"localEndpoints":1,"serviceProxyHealthy":false`
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if got := asked(fmt.Sprintf("http://127.0.0.1:%d/", port)); strings.Contains(got, want) {
			break
		} else if time.Now().After(end) {
			t.Fatalf("IPv4 answers %q, want %s", got, want)
		}
	}
	if got := asked(fmt.Sprintf("http://[::1]:%d/", port)); got != "" {
		t.Errorf("IPv6 answers %q although its rules are not there", got)
	}
}

// asked is the body of an answer; empty: there is none.
func asked(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	return string(text)
}

func TestServiceHealthServesTheRestWhereAPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	checks := []rules.HealthCheck{
		{Namespace: "ns", Name: "taken", Port: netip.MustParseAddrPort(taken.Addr().String()).Port()},
		{Namespace: "ns", Name: "free", Port: freePort(t)},
	}
	var told []ServiceEvent
	h := newServiceHealth(func() bool { return true }, func(e ServiceEvent) { told = append(told, e) })
	t.Cleanup(h.close)
	localhost := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	for range 2 {
		if err := h.sync(checks, localhost); err == nil || !strings.Contains(err.Error(), "ns/taken: spec.healthCheckNodePort") {
			t.Errorf("error %v, want one that names ns/taken", err)
		}
	}
	want := ServiceEvent{"ns", "taken", true, "FailedToStartServiceHealthcheck", "Listen", fmt.Sprintf(`failed to start healthcheck "ns/taken" on port %d: `, checks[0].Port)}
	if len(told) != 1 || !strings.HasPrefix(told[0].Message, want.Message) {
		t.Fatalf("Events %+v, want one that begins with %q", told, want.Message)
	}
	if want.Message = told[0].Message; told[0] != want {
		t.Errorf("Event %+v, want %+v", told[0], want)
	}
	for _, c := range checks[1:] {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", c.Port))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	_ = taken.Close()
	if err := h.sync(checks, localhost); err != nil {
		t.Errorf("after the port was given up: %v", err)
	}
	if len(told) != 1 {
		t.Errorf("Events %+v although all is well", told)
	}
}
