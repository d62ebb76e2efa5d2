package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"svcproxy/pkg/rules"
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
