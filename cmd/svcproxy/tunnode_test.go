package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// tunNode is the test's network namespace as a node each of whose devices ends in
// the test: it puts in what comes from anywhere, and sees whatever leaves, without
// hosts, neighbours or waiting.
type tunNode struct {
	family  rules.Family
	devices map[string]int // their files by their names
	local   []localSocket  // get what is for the node
	out     int            // sends what the node itself makes; -1: not open
	got     func(p rawPacket, refused bool)
}

// localSocket gets a copy of each packet of a protocol that the rules let into
// the node.
type localSocket struct {
	fd       int
	protocol byte
}

// masked are the addresses of the devices, which only masqueraded packets have.
var masked = map[rules.Family]netip.Addr{rules.IPv4: netip.MustParseAddr("10.255.255.1"), rules.IPv6: netip.MustParseAddr("fd00:ff::1")}

const tunNodeScript = `
route add default dev eth0 src 10.250.0.2
route add 10.21.0.0/16 dev flannel.1
route add 10.21.1.0/24 dev cni0
route add default dev eth0 src fd00:250::2
route add fd00:10:21::/48 dev flannel.1
route add fd00:10:21:1::/64 dev cni0
`

// newTunNode enters a namespace and makes it the node of the cases, with addresses
// of its own.
func newTunNode(t *testing.T) *tunNode {
	t.Helper()
	kerneltest.Enter(t)
	n := &tunNode{devices: map[string]int{}, out: -1}
	// Refusals must not be rationed, and sources be taken as they are.
	for _, s := range []string{"ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1", "ipv4.conf.all.rp_filter=0", "ipv4.conf.default.rp_filter=0",
		"ipv4.conf.all.route_localnet=1", "ipv4.conf.all.send_redirects=0", "ipv4.conf.default.send_redirects=0", "ipv6.conf.all.accept_ra=0",
		"ipv4.icmp_ratelimit=0", "ipv4.icmp_ratemask=0", "ipv6.icmp.ratelimit=0", "ipv6.icmp.ratemask=255"} {
		kerneltest.Run(t, "", "sysctl", "-qw", "net."+s)
	}
	script := "addr add 10.255.255.1/32 dev lo\naddr add fd00:ff::1/128 dev lo nodad\naddr add 10.250.0.2/32 dev lo\naddr add fd00:250::2/128 dev lo nodad\n"
	for _, name := range []string{"eth0", "cni0", "flannel.1"} {
		n.devices[name] = openTun(t, name)
		kerneltest.Run(t, "", "sysctl", "-qw", "net.ipv4.conf."+strings.ReplaceAll(name, ".", "/")+".send_redirects=0")
		script += fmt.Sprintf("addr add 10.255.255.1/32 dev %s\naddr add fd00:ff::1/128 dev %s nodad\nlink set %s up\n", name, name, name)
	}
	kerneltest.Run(t, script+tunNodeScript, "ip", "-batch", "-")
	return n
}

// openTun makes a device and returns the file that is its other end.
func openTun(t *testing.T, name string) int {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("/dev/net/tun: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	req, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		t.Fatalf("make the device %s: %v", name, err)
	}
	return fd
}

// listen opens what the node gets and sends by, for a family.
func (n *tunNode) listen(t *testing.T, f rules.Family) {
	t.Helper()
	for _, s := range n.local {
		_ = unix.Close(s.fd)
	}
	_ = unix.Close(n.out)
	n.family, n.local = f, nil
	domain, icmp := unix.AF_INET, unix.IPPROTO_ICMP
	if f == rules.IPv6 {
		domain, icmp = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	open := func(protocol int) int {
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			t.Fatalf("open a socket for protocol %d: %v", protocol, err)
		}
		if f == rules.IPv6 {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
		return fd
	}
	for _, number := range transportNumbers {
		n.local = append(n.local, localSocket{open(int(number)), number})
	}
	n.local = append(n.local, localSocket{open(icmp), byte(icmp)})
	n.out = open(unix.IPPROTO_RAW) // which takes whole packets
}

// send lets a packet come from a position.
func (n *tunNode) send(from position, p rawPacket) error {
	if !from.node {
		_, err := unix.Write(n.devices[from.in], p.bytes())
		return err
	}
	var to unix.Sockaddr = &unix.SockaddrInet6{Addr: p.dst.Addr().As16()}
	if n.family == rules.IPv4 {
		to = &unix.SockaddrInet4{Addr: p.dst.Addr().As4()}
	}
	err := unix.Sendto(n.out, p.bytes(), 0, to)
	if errors.Is(err, unix.EPERM) {
		return nil // by a rule
	}
	return err
}

// drain hands on all that has arrived anywhere.
func (n *tunNode) drain() {
	buf, control := make([]byte, 4096), make([]byte, 256)
	for _, fd := range n.devices {
		for {
			size, err := unix.Read(fd, buf)
			if err != nil || size <= 0 {
				break
			}
			n.hand(parseIP(buf[:size]))
		}
	}
	for _, s := range n.local {
		for {
			size, controlSize, _, from, err := unix.Recvmsg(s.fd, buf, control, 0)
			if err != nil {
				break
			}
			if n.family == rules.IPv4 {
				n.hand(parseIP(buf[:size]))
				continue
			}
			n.hand(parseBody(s.protocol, netip.AddrFrom16(from.(*unix.SockaddrInet6).Addr), destinationIn(control[:controlSize]), buf[:size]))
		}
	}
}

func (n *tunNode) hand(p rawPacket, refused, ok bool) {
	if ok {
		n.got(p, refused)
	}
}

// destinationIn finds the address that a packet was for: such sockets do not show
// the header.
func destinationIn(control []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 16 {
			return netip.AddrFrom16([16]byte(m.Data[:16]))
		}
	}
	return netip.Addr{}
}

// own gives the node the addresses that it has in the objects of a case, and takes
// those that it has there alone when done.
func (n *tunNode) own(t *testing.T, addrs []netip.Addr) (done func()) {
	t.Helper()
	set := func(verb string) {
		for _, a := range addrs[2:] {
			kerneltest.Run(t, "", "ip", "addr", verb, netip.PrefixFrom(a, a.BitLen()).String(), "dev", "lo", "nodad")
		}
	}
	set("add")
	return func() { set("del") }
}

// load replaces the rules of the namespace by those of a text.
func (n *tunNode) load(t *testing.T, backend, text string) {
	t.Helper()
	kerneltest.Run(t, text, n.tool(backend, "restore"))
}

// saved reads back what the kernel has.
func (n *tunNode) saved(t *testing.T, backend string) []rules.Table {
	t.Helper()
	tables, err := rules.ParseSave([]byte(kerneltest.Run(t, "", n.tool(backend, "save"))), n.family)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

func (n *tunNode) tool(backend, verb string) string {
	name := "iptables-"
	if n.family == rules.IPv6 {
		name = "ip6tables-"
	}
	return name + backend + "-" + verb
}

// remember sets which lists of recent hold a source: those of seen, and no other.
func (n *tunNode) remember(t *testing.T, lists, seen []string, src netip.Addr) {
	t.Helper()
	for _, list := range lists {
		path := "/proc/thread-self/net/xt_recent/" + list
		for i, line := range []string{"/", "+" + src.String()} {
			if i == 1 && !slices.Contains(seen, list) {
				break
			}
			if err := os.WriteFile(path, []byte(line+"\n"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
}
