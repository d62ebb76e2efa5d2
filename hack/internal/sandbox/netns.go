package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Netns is the name of a network namespace, as ip calls it.
type Netns string

// NewNetns makes a network namespace; it has nothing but a loopback interface,
// which is up.
func NewNetns(name string) (Netns, error) {
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		return "", fmt.Errorf("ip netns add %s: %w: %s", name, err, out)
	}
	ns := Netns(name)
	return ns, ns.Do(func() error { return IP("link set lo up") })
}

// Remove takes the name away; the kernel ends the namespace when nobody uses it.
func (ns Netns) Remove() error {
	if out, err := exec.Command("ip", "netns", "del", string(ns)).CombinedOutput(); err != nil {
		return fmt.Errorf("ip netns del %s: %w: %s", ns, err, out)
	}
	return nil
}

// Do runs f in the namespace. What f starts is in it too, but for goroutines.
func (ns Netns) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // unlocked only at home, else it ends with the goroutine
		done <- ns.doHere(f)
	}()
	return <-done
}

func (ns Netns) doHere(f func() error) error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = home.Close() }()
	there, err := os.Open("/run/netns/" + string(ns))
	if err != nil {
		return err
	}
	defer func() { _ = there.Close() }()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", ns, err)
	}
	failed := f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("leave %s: %w", ns, err)
	}
	runtime.UnlockOSThread()
	return failed
}

// IP runs commands of ip in the network namespace of the thread.
func IP(lines ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}

// PIDs are the numbers of the processes in the namespace.
func (ns Netns) PIDs() []int {
	var out []int
	text, _ := exec.Command("ip", "netns", "pids", string(ns)).Output()
	for _, word := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(word); err == nil {
			out = append(out, pid)
		}
	}
	return out
}
