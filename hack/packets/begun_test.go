package packets

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"svcproxy/pkg/kernel/kerneltest"
)

const webService = `{apiVersion: v1, kind: Service, metadata: {namespace: ns, name: web}, spec: {type: NodePort,
  clusterIPs: [10.96.0.20, "fd00:10:96::20"], ports: [{port: 80, nodePort: 30080}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: ns, name: web-4, labels: {kubernetes.io/service-name: web}},
  addressType: IPv4, ports: [{port: 8080}], endpoints: [{addresses: [10.21.3.2]}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: ns, name: web-6, labels: {kubernetes.io/service-name: web}},
  addressType: IPv6, ports: [{port: 8080}], endpoints: [{addresses: ["fd00:10:21:3::2"]}]}
`

// A client that begins to connect while there are no rules gets through once there
// are: conntrack has its first packet as one to leave alone, and would leave those
// alone by which it tries again.
func TestConnectionsBegunBeforeTheRules(t *testing.T) {
	kerneltest.NeedRoot(t)
	bin := filepath.Join(t.TempDir(), "svcproxy")
	kerneltest.Run(t, "", "go", "build", "-o", bin, "../../cmd/svcproxy")
	n := newNetwork(t, "svcproxy-packets-begun-")
	n.serve("remote", 8080)
	dir := t.TempDir()
	write(t, dir, webService)
	for _, tool := range []string{"iptables-nft", "ip6tables-nft"} { // a rule of others: without any there is no conntrack
		kerneltest.Run(t, "", "ip", "netns", "exec", n.namespace("node"), tool, "-t", "nat", "-A", "POSTROUTING", "-o", "elsewhere", "-j", "MASQUERADE")
	}

	clients := map[string]netip.AddrPort{
		"10.21.1.77": netip.MustParseAddrPort("10.96.0.20:80"), "fd00:10:21:1::77": netip.MustParseAddrPort("[fd00:10:96::20]:80"),
	}
	outcomes := make(chan outcome, len(clients))
	for src, dst := range clients {
		go func() {
			if err := kerneltest.Inside(n.namespace("client"), func() {
				outcomes <- try("tcp", netip.MustParseAddr(src), dst, 4*patience)
			}); err != nil {
				t.Error(err)
				outcomes <- outcome{}
			}
		}()
	}
	for end := time.Now().Add(patience); strings.Count(n.tracked("ipv4")+n.tracked("ipv6"), "[UNREPLIED]") < len(clients); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not tried: %s%s", n.tracked("ipv4"), n.tracked("ipv6"))
		}
	}
	_, stop := n.follow(bin, dir)
	defer stop()
	for range clients {
		if got := <-outcomes; !got.server.IsValid() || got.server.Port() != 8080 {
			t.Errorf("a connection that began before the rules: %s", got)
		}
	}
}

// tracked is what the node's conntrack has of connections to web.
func (n *network) tracked(family string) string {
	n.t.Helper()
	return kerneltest.Run(n.t, "", "ip", "netns", "exec", n.namespace("node"), "conntrack", "-L", "-f", family, "-p", "tcp", "--dport", "80")
}
