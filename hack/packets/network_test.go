package packets

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
)

// network is a node with everything around it that traffic can come from, each
// in a network namespace: two pods on the node, one elsewhere that the node
// reaches by a route, and the world outside.
type network struct {
	t      *testing.T
	prefix string
	hosts  map[string]*host
}

// host is one namespace of a network.
type host struct {
	name  string
	link  string // the node's interface to it; empty for the node itself
	addrs []netip.Addr
}

// The hosts and their addresses. Outside has a second client, which the source
// ranges of testdata/services.yaml hold.
func hosts() []*host {
	a := func(texts ...string) []netip.Addr {
		var out []netip.Addr
		for _, s := range texts {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	return []*host{
		{name: "node", addrs: a("10.250.0.2", "fd00:250::2")},
		{name: "outside", link: "eth0", addrs: a("10.250.0.1", "192.0.2.77", "192.168.10.5", "fd00:250::1", "2001:db8::77", "2001:db8:10::5")},
		{name: "local", link: "cni1", addrs: a("10.21.1.2", "fd00:10:21:1::2")},
		{name: "client", link: "cni2", addrs: a("10.21.1.77", "fd00:10:21:1::77")},
		{name: "remote", link: "far0", addrs: a("10.21.3.2", "fd00:10:21:3::2")},
	}
}

// newNetwork builds a network that ends with the test.
func newNetwork(t *testing.T, prefix string) *network {
	t.Helper()
	n := &network{t: t, prefix: prefix, hosts: map[string]*host{}}
	n.remove()
	t.Cleanup(n.remove)
	for _, h := range hosts() {
		n.hosts[h.name] = h
		kerneltest.Run(t, "", "ip", "netns", "add", n.namespace(h.name))
		n.batch(h.name, "link set lo up")
		n.sysctl(h.name, "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
	}
	// Refusals must not be rationed: each one is looked for.
	n.sysctl("node", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
		"net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_ratemask=0", "net.ipv6.icmp.ratelimit=0", "net.ipv6.icmp.ratemask=255")
	for _, h := range n.hosts {
		if h.link != "" {
			n.connect(h)
		}
	}
	n.uplink()
	return n
}

func (n *network) namespace(host string) string { return n.prefix + host }

func (n *network) remove() {
	for _, h := range hosts() {
		if _, err := os.Stat("/run/netns/" + n.namespace(h.name)); err == nil {
			kerneltest.Run(n.t, "", "ip", "netns", "del", n.namespace(h.name))
		}
	}
}

func (n *network) batch(host string, lines ...string) {
	n.t.Helper()
	kerneltest.Run(n.t, strings.Join(lines, "\n"), "ip", "-n", n.namespace(host), "-batch", "-")
}

func (n *network) sysctl(host string, settings ...string) {
	n.t.Helper()
	kerneltest.Run(n.t, "", "ip", append([]string{"netns", "exec", n.namespace(host), "sysctl", "-qw"}, settings...)...)
}

// connect joins a host to the node. Its gateway is a permanent neighbour entry,
// so that the node's end needs no address, and a pod reaches itself through the
// node as any other.
func (n *network) connect(h *host) {
	const gatewayMAC, hostMAC = "5e:00:00:00:00:01", "5e:00:00:00:00:02"
	n.batch("node",
		"link add "+h.link+" address "+gatewayMAC+" type veth peer name eth0 address "+hostMAC+" netns "+n.namespace(h.name),
		"link set "+h.link+" up")
	lines := []string{"link set eth0 up"}
	for _, a := range h.addrs {
		lines = append(lines, fmt.Sprintf("addr add %s dev eth0%s", netip.PrefixFrom(a, a.BitLen()), nodad(a)))
	}
	lines = append(lines,
		"neigh add 169.254.1.1 lladdr "+gatewayMAC+" dev eth0 nud permanent",
		"neigh add fe80::1 lladdr "+gatewayMAC+" dev eth0 nud permanent",
		"route add default via 169.254.1.1 dev eth0 onlink",
		"route add default via fe80::1 dev eth0 onlink")
	n.batch(h.name, lines...)
	var routes []string
	for _, a := range h.addrs {
		routes = append(routes, fmt.Sprintf("route add %s dev %s", netip.PrefixFrom(a, a.BitLen()), h.link),
			fmt.Sprintf("neigh add %s lladdr %s dev %s nud permanent", a, hostMAC, h.link))
	}
	n.batch("node", routes...)
}

func nodad(a netip.Addr) string {
	if a.Is6() {
		return " nodad"
	}
	return ""
}

// uplink gives the node its addresses and its default route.
func (n *network) uplink() {
	var lines []string
	for _, a := range n.hosts["node"].addrs {
		lines = append(lines, fmt.Sprintf("addr add %s dev eth0%s", netip.PrefixFrom(a, a.BitLen()), nodad(a)))
	}
	n.batch("node", append(lines,
		"route add default via 10.250.0.1 dev eth0 onlink src 10.250.0.2",
		"route add default via fd00:250::1 dev eth0 onlink src fd00:250::2")...)
}
