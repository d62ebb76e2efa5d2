// Package api tests svcproxy with a real API server, etcd and controller
// manager: what informers see, through every kind of trouble, must end in the
// rules that a fresh start would write. It also has the real kube-proxy and svcproxy
// take each other's place on a node.
package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// The tests need binaries that take minutes to build, so they run only if this
// names the folder they are in; "make test-api" builds them and sets it.
const binVariable = "SVCPROXY_TEST_API_BIN"

// insideVariable marks the process that runs in a network namespace of its own.
const insideVariable = "SVCPROXY_TEST_API_INSIDE"

// TestMain runs the tests in a network namespace of their own, so that ports are
// free, and rules nobody else's.
func TestMain(m *testing.M) {
	if os.Getenv(binVariable) == "" || os.Getenv(insideVariable) != "" {
		os.Exit(m.Run())
	}
	os.Exit(runInside())
}

func runInside() int {
	cmd := exec.Command("/bin/sh", append([]string{"-c", `ip link set lo up && exec "$0" "$@"`}, os.Args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "in a network namespace of its own (needs root):", err)
		return 1
	}
	return 0
}

// signingKey returns a new key for service account tokens.
func signingKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}
