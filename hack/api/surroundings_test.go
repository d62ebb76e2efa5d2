package api

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
)

// surroundings is a node and what traffic comes from and goes to, each in a
// network namespace: pods that serve, a pod that asks, and the world outside.
// The node reaches the API server, which runs where the test does, by a link.
type surroundings struct {
	t      *testing.T
	prefix string
}

// The hosts around the node, and the addresses of each.
const (
	nodeHost    = "node"
	servingHost = "pods"
	askingHost  = "client"
	outsideHost = "outside"
)

// Addresses of the link between the node and the API server.
const (
	nodeLink = "10.250.9.2"
	apiLink  = "10.250.9.1"
)

// nodeAddress is the one that the Node object has.
const nodeAddress = "10.250.0.2"

// maxPods is how many addresses the serving host has.
const maxPods = 24

func podAddress(i int) string { return fmt.Sprintf("10.21.1.%d", i) }

func addressesOf(host string) []string {
	var out []string
	switch host {
	case servingHost:
		for i := 1; i <= maxPods; i++ {
			out = append(out, podAddress(i))
		}
	case askingHost:
		for i := 101; i <= 108; i++ {
			out = append(out, podAddress(i))
		}
	case outsideHost:
		for i := 11; i <= 18; i++ {
			out = append(out, fmt.Sprintf("192.0.2.%d", i))
		}
	case nodeHost:
		out = []string{nodeAddress}
	}
	return out
}

// newSurroundings builds them; they end with the test.
func newSurroundings(t *testing.T, prefix string) *surroundings {
	t.Helper()
	s := &surroundings{t: t, prefix: prefix}
	s.remove()
	t.Cleanup(s.remove)
	for _, host := range s.hosts() {
		kerneltest.Run(t, "", "ip", "netns", "add", s.namespace(host))
		s.batch(host, "link set lo up")
	}
	s.run(nodeHost, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
	kerneltest.Run(t, "link add api0 type veth peer name api0 netns "+s.namespace(nodeHost)+"\n"+
		"addr add "+apiLink+"/30 dev api0\nlink set api0 up\n", "ip", "-batch", "-")
	s.batch(nodeHost, "addr add "+nodeLink+"/30 dev api0", "link set api0 up")
	for i, host := range []string{servingHost, askingHost, outsideHost} {
		s.connect(host, fmt.Sprintf("to%d", i))
	}
	s.batch(nodeHost, "addr add "+nodeAddress+"/32 dev to2", "route add default dev to2 src "+nodeAddress)
	return s
}

func (s *surroundings) hosts() []string {
	return []string{nodeHost, servingHost, askingHost, outsideHost}
}

func (s *surroundings) namespace(host string) string { return s.prefix + host }

// connect joins a host to the node by a link; its gateway is a neighbour that
// needs no address.
func (s *surroundings) connect(host, link string) {
	const gatewayMAC, hostMAC = "5e:00:00:00:00:01", "5e:00:00:00:00:02"
	s.batch(nodeHost, "link add "+link+" address "+gatewayMAC+" type veth peer name eth0 address "+hostMAC+" netns "+s.namespace(host),
		"link set "+link+" up")
	there := []string{"link set eth0 up"}
	var here []string
	for _, a := range addressesOf(host) {
		there = append(there, "addr add "+a+"/32 dev eth0")
		here = append(here, "route add "+a+"/32 dev "+link, "neigh add "+a+" lladdr "+hostMAC+" dev "+link+" nud permanent")
	}
	s.batch(host, append(there, "neigh add 169.254.1.1 lladdr "+gatewayMAC+" dev eth0 nud permanent",
		"route add default via 169.254.1.1 dev eth0 onlink")...)
	s.batch(nodeHost, here...)
}

func (s *surroundings) batch(host string, lines ...string) {
	s.t.Helper()
	kerneltest.Run(s.t, strings.Join(lines, "\n"), "ip", "-n", s.namespace(host), "-batch", "-")
}

// run runs a command in the namespace of a host and returns what it printed.
func (s *surroundings) run(host string, args ...string) string {
	s.t.Helper()
	return kerneltest.Run(s.t, "", "ip", append([]string{"netns", "exec", s.namespace(host)}, args...)...)
}

// inside runs f in the namespace of a host.
func (s *surroundings) inside(host string, f func()) {
	s.t.Helper()
	if err := kerneltest.Inside(s.namespace(host), f); err != nil {
		s.t.Fatalf("enter the namespace of %s: %v", host, err)
	}
}

func (s *surroundings) remove() {
	for _, host := range s.hosts() {
		if _, err := os.Stat("/run/netns/" + s.namespace(host)); err == nil {
			kerneltest.Run(s.t, "", "ip", "netns", "del", s.namespace(host))
		}
	}
	_ = exec.Command("ip", "link", "del", "api0").Run() // gone with the node, mostly
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
