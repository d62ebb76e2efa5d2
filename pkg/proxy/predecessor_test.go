package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// at starts a server and returns it with its address.
func at(t *testing.T, h http.Handler) (*httptest.Server, string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s, s.Listener.Addr().String()
}

func says(body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/proxyMode" {
			_, _ = w.Write([]byte(body))
			return
		}
		http.NotFound(w, r)
	})
}

func TestPredecessorIsNamed(t *testing.T) {
	ours := NewHealth(time.Minute, NewMetrics(""))
	_, other := at(t, http.NotFoundHandler())
	_, nftables := at(t, says("nftables"))
	_, mode := at(t, ours.LocalHandler())
	_, health := at(t, ours.Handler())
	_, odd := at(t, says("this is no mode"))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	free := func() string {
		l, _ := net.Listen("tcp", "127.0.0.1:0")
		defer func() { _ = l.Close() }()
		return l.Addr().String()
	}()
	_, port, _ := net.SplitHostPort(health)
	for _, test := range []struct {
		name   string
		p      Predecessor
		wanted []string // words of the error; none: no error
	}{
		{"nobody there", Predecessor{Listen: []Listener{{"f", free}, {"g", ""}}, Known: []string{free}}, nil},
		{"somebody else, on a port that is not needed", Predecessor{Listen: []Listener{{"f", free}}, Known: []string{other, odd}}, nil},
		{"a mode", Predecessor{Known: []string{free, nftables}}, []string{nftables, "mode nftables", "docs/migrate.md"}},
		{"svcproxy's own", Predecessor{Known: []string{mode}}, []string{mode, "mode iptables"}},
		{"its health", Predecessor{Known: []string{health}}, []string{health, "a service proxy, whose health"}},
		{"a port that is needed", Predecessor{Listen: []Listener{{"some-address", other}}}, []string{"--some-address: " + other, "does not answer as a service proxy", "docs/migrate.md"}},
		{"on all addresses", Predecessor{Listen: []Listener{{"some-address", "0.0.0.0:" + port}}}, []string{"--some-address: 0.0.0.0:" + port, "a service proxy, whose health"}},
		{"one that never answers", Predecessor{Listen: []Listener{{"f", silent.Addr().String()}}}, []string{silent.Addr().String(), "does not answer"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.p.Await(context.Background())
			if (err != nil) != (test.wanted != nil) {
				t.Fatalf("got %v, want an error: %v", err, test.wanted != nil)
			}
			for _, w := range test.wanted {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
		})
	}
}

func TestPredecessorThatEndsIsWaitedFor(t *testing.T) {
	server, address := at(t, says("iptables"))
	p := Predecessor{Listen: []Listener{{"f", address}}, Known: []string{address}, Patience: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- p.Await(context.Background()) }()
	select {
	case err := <-ended:
		t.Fatalf("it runs, and was not waited for: %v", err)
	case <-time.After(2 * predecessorPeriod):
	}
	server.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWaitingForAPredecessorEndsWithTheContext(t *testing.T) {
	_, address := at(t, says("iptables"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p := Predecessor{Known: []string{address}, Listen: []Listener{{"f", address}}, Patience: time.Minute}
	if err := p.Await(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
