// Package surroundings makes a node and what traffic comes from and goes to, each in
// a network namespace: pods that serve, a pod that asks, and the world outside. The
// node reaches the API server, which runs where the caller is, by a link.
package surroundings

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"

	"svcproxy/hack/internal/sandbox"
)

// The hosts.
const (
	Node    = "node"
	Pods    = "pods" // where all pods serve
	Client  = "client"
	Outside = "outside"
)

// APIAddress is that of the API server, as the node sees it.
var APIAddress = netip.MustParseAddr("10.250.9.1")

// NodeAddress is the one that the Node object has.
var NodeAddress = netip.MustParseAddr("10.250.0.2")

// ClusterCIDR is where pods are, those that ask as well.
var ClusterCIDR = netip.MustParsePrefix("10.21.0.0/16")

// MaxPods is how many addresses the serving host has.
const MaxPods = 48

// firstClient is the first address of the pod that asks.
const firstClient = 101

// Pod is the address of the i-th pod, counted from 1.
func Pod(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 21, 1, byte(i)}) }

// Addresses are those of a host.
func Addresses(host string) []netip.Addr {
	var out []netip.Addr
	switch host {
	case Pods:
		for i := range MaxPods {
			out = append(out, Pod(i+1))
		}
	case Client:
		for i := range 8 {
			out = append(out, Pod(firstClient+i))
		}
	case Outside:
		for i := range 8 {
			out = append(out, netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + i)}))
		}
	case Node:
		out = append(out, NodeAddress)
	}
	return out
}

// Surroundings are the hosts.
type Surroundings struct {
	prefix string
	made   []sandbox.Netns
}

// New makes them, as namespaces whose names begin with a prefix.
func New(prefix string) (*Surroundings, error) {
	s := &Surroundings{prefix: prefix}
	if err := s.make(); err != nil {
		s.Remove()
		return nil, fmt.Errorf("make a node and its surroundings: %w", err)
	}
	return s, nil
}

func (s *Surroundings) make() error {
	for _, host := range []string{Node, Pods, Client, Outside} {
		ns, err := sandbox.NewNetns(s.prefix + host)
		if err != nil {
			return err
		}
		s.made = append(s.made, ns)
	}
	if _, err := s.Run(Node, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"); err != nil {
		return err
	}
	if err := s.LinkAPI(s.Netns(Node), "api0", APIAddress); err != nil {
		return err
	}
	for i, host := range []string{Pods, Client, Outside} {
		if err := s.connect(host, fmt.Sprintf("to%d", i)); err != nil {
			return err
		}
	}
	return s.IP(Node, fmt.Sprintf("addr add %s/32 dev to2", NodeAddress), fmt.Sprintf("route add default dev to2 src %s", NodeAddress))
}

// LinkAPI lets a namespace reach the API server at that address, by a link of that
// name.
func (s *Surroundings) LinkAPI(ns sandbox.Netns, link string, api netip.Addr) error {
	err := sandbox.IP("link add "+link+" type veth peer name "+link+" netns "+string(ns),
		fmt.Sprintf("addr add %s/30 dev %s", api, link), "link set "+link+" up")
	if err != nil {
		return err
	}
	return ns.Do(func() error {
		return sandbox.IP(fmt.Sprintf("addr add %s/30 dev %s", api.Next(), link), "link set "+link+" up")
	})
}

// connect joins a host to the node by a link; its gateway is a neighbour that needs
// no address.
func (s *Surroundings) connect(host, link string) error {
	const gatewayMAC, hostMAC = "5e:00:00:00:00:01", "5e:00:00:00:00:02"
	there := []string{"link set eth0 up"}
	here := []string{"link add " + link + " address " + gatewayMAC + " type veth peer name eth0 address " + hostMAC + " netns " + string(s.Netns(host)),
		"link set " + link + " up"}
	for _, a := range Addresses(host) {
		there = append(there, fmt.Sprintf("addr add %s/32 dev eth0", a))
		here = append(here, fmt.Sprintf("route add %s/32 dev %s", a, link), fmt.Sprintf("neigh add %s lladdr %s dev %s nud permanent", a, hostMAC, link))
	}
	if err := s.IP(Node, here...); err != nil {
		return err
	}
	return s.IP(host, append(there, "neigh add 169.254.1.1 lladdr "+gatewayMAC+" dev eth0 nud permanent",
		"route add default via 169.254.1.1 dev eth0 onlink")...)
}

// Netns is the namespace of a host.
func (s *Surroundings) Netns(host string) sandbox.Netns { return sandbox.Netns(s.prefix + host) }

// IP runs commands of ip in the namespace of a host.
func (s *Surroundings) IP(host string, lines ...string) error {
	return s.Do(host, func() error { return sandbox.IP(lines...) })
}

// Do runs f in the namespace of a host. What f starts is in it too, but for
// goroutines.
func (s *Surroundings) Do(host string, f func() error) error { return s.Netns(host).Do(f) }

// Run runs a command in the namespace of a host and returns what it printed.
func (s *Surroundings) Run(host, command string, args ...string) (string, error) {
	var out []byte
	err := s.Do(host, func() error {
		var err error
		if out, err = exec.Command(command, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v on %s: %w: %s", command, args, host, err, out)
		}
		return nil
	})
	return string(out), err
}

// Remove takes the hosts away.
func (s *Surroundings) Remove() {
	for _, ns := range slices.Backward(s.made) {
		_ = ns.Remove()
	}
	s.made = nil
	_ = exec.Command("ip", "link", "del", "api0").Run() // gone with the node, mostly
}
