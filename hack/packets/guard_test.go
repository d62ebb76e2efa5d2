package packets

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"svcproxy/pkg/kernel/kerneltest"
)

// checkGuard tries CVE-2020-8558: with route_localnet, which node ports on
// localhost need, a neighbour of the node sends packets for 127.0.0.1 to it.
// They must not reach what listens there, and without the guard they would.
func (n *network) checkGuard(t *testing.T, backend string) {
	t.Helper()
	secret := netip.MustParseAddrPort("127.0.0.1:9999")
	reached := make(chan string, 1)
	n.inside("node", func() {
		l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(secret))
		if err != nil {
			t.Errorf("listen on %s: %v", secret, err)
			return
		}
		t.Cleanup(func() { _ = l.Close() })
		go receive(l, reached)
	})
	n.sysctl("outside", "net.ipv4.conf.all.route_localnet=1")
	n.batch("outside", "route del local 127.0.0.0/8 dev lo table local", "route del local 127.0.0.1 dev lo table local",
		"route add 127.0.0.1 via 169.254.1.1 dev eth0 onlink")
	attack := func(patience time.Duration) bool {
		n.inside("outside", func() { try("udp", netip.MustParseAddr("192.0.2.77"), secret, time.Millisecond) })
		select {
		case <-reached:
			return true
		case <-time.After(patience):
			return false
		}
	}
	if attack(patienceForDrops) {
		t.Errorf("a neighbour reached %s", secret)
	}
	kerneltest.Run(t, "", "ip", "netns", "exec", n.namespace("node"), "iptables-"+backend, "-F", "KUBE-FIREWALL")
	if !attack(patience) {
		t.Errorf("without the guard %s is not reached either, so the attack above was none", secret)
	}
}

func receive(l *net.UDPConn, reached chan<- string) {
	buf := make([]byte, 16)
	for {
		_, from, err := l.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		reached <- from.String()
	}
}
