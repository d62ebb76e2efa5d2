package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// netns is a network namespace, the node of one proxy. A veth joins it to the
// one that the bench is in, where control plane and pods are.
type netns struct {
	name   string
	nodeIP netip.Addr // of the node
	podIP  netip.Addr // where connections come from: a pod's need no masquerading
}

// newNetns makes the n-th one; n is never used twice, since the kernel takes
// links away some time after their namespace.
func newNetns(n int) (*netns, error) {
	ns := &netns{name: fmt.Sprint("node-", n), nodeIP: nthIP(nodeNetwork, n), podIP: nthIP(clientNetwork, n)}
	if out, err := exec.Command("ip", "netns", "add", ns.name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ip netns add %s: %w: %s", ns.name, err, out)
	}
	link := fmt.Sprint("to-", n)
	err := ip("link add "+link+" type veth peer name eth0 netns "+ns.name,
		fmt.Sprintf("addr add %s peer %s dev %s", controlIP, ns.nodeIP, link),
		"link set "+link+" up",
		fmt.Sprintf("route add %s dev %s", ns.podIP, link))
	if err != nil {
		return nil, err
	}
	return ns, ns.do(func() error {
		return ip("link set lo up",
			fmt.Sprintf("addr add %s peer %s dev eth0", ns.nodeIP, controlIP),
			"link set eth0 up",
			fmt.Sprintf("addr add %s/32 dev eth0", ns.podIP),
			fmt.Sprintf("route add default via %s src %s", controlIP, ns.podIP))
	})
}

func (ns *netns) remove() error {
	if out, err := exec.Command("ip", "netns", "del", ns.name).CombinedOutput(); err != nil {
		return fmt.Errorf("ip netns del %s: %w: %s", ns.name, err, out)
	}
	return nil
}

// do runs f in the namespace. What f starts is in it too, but for goroutines.
func (ns *netns) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // unlocked only at home, else it ends with the goroutine
		done <- ns.doHere(f)
	}()
	return <-done
}

func (ns *netns) doHere(f func() error) error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = home.Close() }()
	there, err := os.Open("/run/netns/" + ns.name)
	if err != nil {
		return err
	}
	defer func() { _ = there.Close() }()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", ns.name, err)
	}
	failed := f()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("leave %s: %w", ns.name, err)
	}
	runtime.UnlockOSThread()
	return failed
}

// ip runs commands of ip in the network namespace of the thread.
func ip(lines ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}
