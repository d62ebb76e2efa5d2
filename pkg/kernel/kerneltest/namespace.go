// Package kerneltest gives tests a network namespace of their own, with tables
// that nobody else sees.
package kerneltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Enter moves the test into a fresh network namespace, and everything that it
// runs from its own goroutine. The namespace goes with the test. Without the
// right to make one the test is skipped, or fails if the environment says that
// kernel tests are required. Tests that enter cannot be parallel.
func Enter(t *testing.T) {
	t.Helper()
	required := os.Getenv("SVCPROXY_TEST_REQUIRE_KERNEL") != ""
	if _, err := exec.LookPath("iptables-nft"); err != nil {
		refuse(t, required, "iptables is not installed")
	}
	// The thread is never given back: it ends with the goroutine, and the
	// namespace with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		refuse(t, required, "no network namespace: "+err.Error()+" (needs root)")
	}
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "xtables.lock"))
	Run(t, "", "ip", "link", "set", "lo", "up")
}

func refuse(t *testing.T, required bool, reason string) {
	t.Helper()
	if required {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// Run runs a command that must succeed and returns what it printed.
func Run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
