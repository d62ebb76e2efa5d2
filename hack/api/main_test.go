// Package api tests svcproxy with a real API server, etcd and controller
// manager: what informers see, through every kind of trouble, must end in the
// rules that a fresh start would write. It also has the real kube-proxy and svcproxy
// take each other's place on a node.
package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"svcproxy/hack/internal/sandbox"
)

// The tests need binaries that take minutes to build, so they run only if this
// names the folder they are in; "make test-api" builds them and sets it.
const binVariable = "SVCPROXY_TEST_API_BIN"

// TestMain runs the tests in a sandbox, so that ports are free, and rules nobody
// else's.
func TestMain(m *testing.M) {
	if os.Getenv(binVariable) == "" {
		os.Exit(m.Run())
	}
	if !sandbox.Inside() {
		os.Exit(outside())
	}
	if err := sandbox.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func outside() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := sandbox.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil {
		return 0
	}
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}
