// Package api tests svcproxy with a real API server, etcd and controller
// manager: what informers see, through every kind of trouble, must end in the
// rules that a fresh start would write. It also has the real kube-proxy and svcproxy
// take each other's place on a node.
package api

import (
	"os"
	"testing"

	"svcproxy/hack/internal/sandbox"
)

// The tests need binaries that take minutes to build, so they run only if this
// names the folder they are in; "make test-api" builds them and sets it.
const binVariable = "SVCPROXY_TEST_API_BIN"

func TestMain(m *testing.M) {
	if os.Getenv(binVariable) == "" {
		os.Exit(m.Run())
	}
	os.Exit(sandbox.Tests(m.Run))
}
