package kernel

import (
	"context"
	"net"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

func TestPacketsOfARule(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		discard := rules.Rule{Protocol: rules.UDP, DstPort: rules.Port(9), Target: rules.Target{Name: rules.Accept}}
		packets := func(rule rules.Rule, want uint64) {
			t.Helper()
			if n, err := k.Packets(context.Background(), rules.Filter, "KUBE-FORWARD", rule); err != nil || n != want {
				t.Errorf("%d packets, %v; want %d", n, err, want)
			}
		}
		if n, err := k.Packets(context.Background(), rules.Filter, "KUBE-FORWARD", discard); err == nil {
			t.Errorf("%d packets without a chain", n)
		}
		kerneltest.Run(t, `*filter
:KUBE-FORWARD - [0:0]
-A KUBE-FORWARD -m comment --comment " -c 7 7 "
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -p udp -m udp --dport 9 -j ACCEPT
-A OUTPUT -p udp -j KUBE-FORWARD
COMMIT
`, k.tools.restore, "--noflush")
		packets(discard, 0)
		sendDatagrams(t, k.family, 3)
		packets(discard, 3)
		_, _, drop, ok := rules.InvalidDropped(rules.Config{DropInvalid: true})
		if !ok {
			t.Error("INVALID packets are not dropped")
		}
		packets(drop, 0)
	})
}

// sendDatagrams sends some over UDP to port 9 of this host.
func sendDatagrams(t *testing.T, f rules.Family, n int) {
	t.Helper()
	to := "127.0.0.1:9"
	if f == rules.IPv6 {
		to = "[::1]:9"
	}
	for range n {
		conn, err := net.Dial("udp", to) // its own, as a refusal is told to the next one who writes
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
}
