package packets

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"svcproxy/pkg/kernel/kerneltest"
)

// nodeState is what a Node says of itself, with the objects of a Service that it
// matters to.
type nodeState struct{ address, address6, zone, pods, pods6 string }

func (s nodeState) objects() string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Node, metadata: {name: node, labels: {topology.kubernetes.io/zone: %s}},
  spec: {podCIDRs: [%q, %q]}, status: {addresses: [{type: InternalIP, address: %q}, {type: InternalIP, address: %q}]}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: ns, name: web}, spec: {type: NodePort,
  clusterIPs: [10.96.0.10, "fd00:10:96::10"], ports: [{port: 80, nodePort: 30080}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: ns, name: web-4, labels: {kubernetes.io/service-name: web}},
  addressType: IPv4, ports: [{name: "", port: 8080}], endpoints: [
  {addresses: [10.21.1.2], hints: {forZones: [{name: a}]}}, {addresses: [10.21.3.2], hints: {forZones: [{name: b}]}}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: ns, name: web-6, labels: {kubernetes.io/service-name: web}},
  addressType: IPv6, ports: [{name: "", port: 8080}], endpoints: [
  {addresses: ["fd00:10:21:1::2"], hints: {forZones: [{name: a}]}}, {addresses: ["fd00:10:21:3::2"], hints: {forZones: [{name: b}]}}]}
`, s.zone, s.pods, s.pods6, s.address, s.address6)
}

// A change of the Node's addresses, zone and pod range has its effect without a
// restart; kube-proxy ends when these change.
func TestTheNodeIsFollowed(t *testing.T) {
	kerneltest.NeedRoot(t)
	bin := filepath.Join(t.TempDir(), "svcproxy")
	kerneltest.Run(t, "", "go", "build", "-o", bin, "../../cmd/svcproxy")
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			n := newNetwork(t, "svcproxy-packets-node-")
			n.serve("local", serverPort)
			n.serve("remote", serverPort)
			n.secondAddresses("add")
			dir := t.TempDir()
			state := nodeState{"10.250.0.2", "fd00:250::2", "a", "10.21.1.0/24", "fd00:10:21:1::/64"}
			set := func() { write(t, dir, state.objects()) }
			set()
			n.follow(bin, dir, "--iptables-backend", backend, "--nodeport-addresses", "primary", "--detect-local-mode", "NodeCIDR")
			own := n.hosts["client"].addrs
			const vip, vip6 = "10.96.0.10:80", "[fd00:10:96::10]:80"
			for _, vip := range []string{vip, vip6} {
				n.sees(t, "the start", "client", vip, func(o outcome) bool { return o.by(n, "local") && slices.Contains(own, o.source) })
			}
			for _, at := range []string{"10.250.0.2:30080", "[fd00:250::2]:30080"} {
				n.sees(t, "the start", "outside", at, func(o outcome) bool { return o.by(n, "local") })
			}
			for _, at := range []string{"10.250.0.9:30080", "[fd00:250::9]:30080"} {
				n.sees(t, "not the primary address", "outside", at, func(o outcome) bool { return !o.server.IsValid() })
			}

			state.address, state.address6 = "10.250.0.9", "fd00:250::9"
			set()
			for _, at := range []string{"10.250.0.9:30080", "[fd00:250::9]:30080"} {
				n.sees(t, "another address", "outside", at, func(o outcome) bool { return o.by(n, "local") })
			}
			for _, at := range []string{"10.250.0.2:30080", "[fd00:250::2]:30080"} {
				n.sees(t, "no more the primary address", "outside", at, func(o outcome) bool { return !o.server.IsValid() })
			}
			state.zone = "b"
			set()
			for _, vip := range []string{vip, vip6} {
				n.sees(t, "another zone", "client", vip, func(o outcome) bool { return o.by(n, "remote") && slices.Contains(own, o.source) })
			}
			state.pods, state.pods6 = "10.99.0.0/24", "fd00:99::/64"
			set()
			for _, vip := range []string{vip, vip6} {
				n.sees(t, "another pod range", "client", vip, func(o outcome) bool { return o.by(n, "remote") && !slices.Contains(own, o.source) })
			}
		})
	}
}

// An address that the machine gets has node ports at once, and one that it loses
// has none, whatever the Node says and with no rule written.
func TestTheMachinesAddressesAreFollowed(t *testing.T) {
	kerneltest.NeedRoot(t)
	bin := filepath.Join(t.TempDir(), "svcproxy")
	kerneltest.Run(t, "", "go", "build", "-o", bin, "../../cmd/svcproxy")
	for _, backend := range []string{"nft", "legacy"} {
		for _, addresses := range []string{"0.0.0.0/0,::/0", "10.250.0.0/24,fd00:250::/64"} {
			t.Run(backend+" "+addresses, func(t *testing.T) {
				n := newNetwork(t, "svcproxy-packets-node-")
				n.serve("local", serverPort)
				dir := t.TempDir()
				write(t, dir, nodeState{"10.250.0.2", "fd00:250::2", "a", "10.21.1.0/24", "fd00:10:21:1::/64"}.objects())
				_, stop := n.follow(bin, dir, "--iptables-backend", backend, "--nodeport-addresses", addresses)
				n.sees(t, "the start", "outside", "10.250.0.2:30080", func(o outcome) bool { return o.by(n, "local") })
				n.sees(t, "the start", "outside", "[fd00:250::2]:30080", func(o outcome) bool { return o.by(n, "local") })
				stop() // nobody is there to write rules
				later := []string{"10.250.0.9:30080", "[fd00:250::9]:30080"}
				n.secondAddresses("add")
				for _, at := range later {
					n.sees(t, "addresses come", "outside", at, func(o outcome) bool { return o.by(n, "local") })
				}
				n.secondAddresses("del")
				for _, at := range later {
					n.sees(t, "addresses go", "outside", at, func(o outcome) bool { return !o.server.IsValid() })
				}
			})
		}
	}
}

// secondAddresses adds another address of each family to the node, or deletes it.
func (n *network) secondAddresses(verb string) {
	n.batch("node", "addr "+verb+" 10.250.0.9/32 dev eth0", "addr "+verb+" fd00:250::9/128 dev eth0")
}

// by reports whether an endpoint on the host answered.
func (o outcome) by(n *network, host string) bool {
	return o.server.Port() == serverPort && slices.Contains(n.hosts[host].addrs, o.server.Addr())
}

// sees connects from the first address of a host until what it sees is as wanted,
// three times in a row.
func (n *network) sees(t *testing.T, what, host, to string, want func(outcome) bool) {
	t.Helper()
	dst := netip.MustParseAddrPort(to)
	src := n.hosts[host].addrs[slices.IndexFunc(n.hosts[host].addrs, func(a netip.Addr) bool { return a.Is4() == dst.Addr().Is4() })]
	var last outcome
	n.inside(host, func() {
		for end, good := time.Now().Add(patience), 0; good < 3 && time.Now().Before(end); {
			if last = try("tcp", src, dst, patienceForDrops); want(last) {
				good++
			} else {
				good = 0
				time.Sleep(10 * time.Millisecond)
			}
		}
	})
	if !want(last) {
		t.Errorf("%s: %s to %s sees %s", what, host, to, last)
	}
}

// write puts objects into a directory at once.
func write(t *testing.T, dir, objects string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte(objects), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "objects.yaml")); err != nil {
		t.Fatal(err)
	}
}
