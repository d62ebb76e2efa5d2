package api

import (
	"net/netip"
	"testing"

	"svcproxy/hack/internal/echo"
	"svcproxy/hack/internal/surroundings"
)

// around is a node and what is around it; what goes wrong there fails the test.
type around struct {
	t *testing.T
	*surroundings.Surroundings
}

// newAround makes them; they end with the test.
func newAround(t *testing.T, prefix string) *around {
	t.Helper()
	made, err := surroundings.New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(made.Remove)
	return &around{t, made}
}

// run runs a command in the namespace of a host and returns what it printed.
func (a *around) run(host, command string, args ...string) string {
	a.t.Helper()
	out, err := a.Run(host, command, args...)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

// inside runs f in the namespace of a host.
func (a *around) inside(host string, f func() error) {
	a.t.Helper()
	if err := a.Do(host, f); err != nil {
		a.t.Fatalf("in the namespace of %s: %v", host, err)
	}
}

// servePods answers on the addresses of all pods.
func (a *around) servePods() {
	a.t.Helper()
	a.inside(surroundings.Pods, func() error {
		servers, err := echo.Serve(surroundings.Addresses(surroundings.Pods))
		if err == nil {
			a.t.Cleanup(func() { _ = servers.Close() })
		}
		return err
	})
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
