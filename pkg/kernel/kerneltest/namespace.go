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
func Enter(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	if _, err := exec.LookPath("iptables-nft"); err != nil {
		Refuse(t, "iptables is not installed")
	}
	// The thread is never given back: it ends with the goroutine, and the
	// namespace with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		Refuse(t, "no network namespace: "+err.Error())
	}
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "xtables.lock"))
	Run(t, "", "ip", "link", "set", "lo", "up")
}

// NeedRoot ends a test that cannot make namespaces as Enter does.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Refuse(t, "needs root, to make network namespaces")
	}
}

// Inside runs f in the network namespace that ip calls by that name, on a thread
// that comes back afterwards: a main thread left behind would make the whole
// process look as if it were in there. What f starts elsewhere is not inside.
func Inside(name string, f func()) error {
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // unlocked only at home, else it ends with the goroutine
		failed <- inside("/run/netns/"+name, f)
	}()
	return <-failed
}

func inside(path string, f func()) error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = home.Close() }()
	there, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = there.Close() }()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	runtime.UnlockOSThread()
	return nil
}

// Beside runs f on another thread in the network namespace of the caller; the
// channel is closed when it is done.
func Beside(t testing.TB, f func()) <-chan struct{} {
	t.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = ns.Close() }()
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	return done
}

// Refuse ends a test that lacks something: skipped, or failed if the environment says
// that kernel tests are required.
func Refuse(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("SVCPROXY_TEST_REQUIRE_KERNEL") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// Run runs a command that must succeed and returns what it printed.
func Run(t testing.TB, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
