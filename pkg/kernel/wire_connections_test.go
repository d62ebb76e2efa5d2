package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

func TestConnectionsToADestination(t *testing.T) {
	inNamespace(t, func(t *testing.T, f rules.Family, a []string) {
		client, vip, pod, other, node := a[0], a[1], a[2], a[3], a[4]
		add(t, "tcp", client, "1001", vip, "53", pod, "5353", "--state", "ESTABLISHED", "--status", "SEEN_REPLY")
		add(t, "tcp", node, "1002", vip, "53", other, "5353", "--state", "SYN_SENT")
		add(t, "tcp", client, "1003", vip, "54", pod, "5353", "--state", "ESTABLISHED")
		add(t, "udp", client, "1004", vip, "53", pod, "5353")
		at := func(addr string, port uint16) netip.AddrPort {
			return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
		}
		for _, c := range []struct {
			protocol rules.Protocol
			src, dst netip.AddrPort
			want     string
		}{
			{rules.TCP, netip.AddrPort{}, at(vip, 53), "1001 ESTABLISHED answered, 1002 SYN_SENT"},
			{rules.TCP, at(client, 0), at(vip, 53), "1001 ESTABLISHED answered"},
			{rules.TCP, at(client, 1003), at(vip, 0), "1003 ESTABLISHED"},
			{rules.UDP, at(client, 0), at(vip, 53), "1004"},
			{rules.UDP, at(client, 1001), at(vip, 53), ""},
		} {
			got, err := NewFlows(f).Connections(c.protocol, c.src, c.dst)
			if err != nil {
				t.Fatal(err)
			}
			if words := inWords(got); words != c.want {
				t.Errorf("%s %s to %s: %s, want %s", c.protocol, c.src, c.dst, words, c.want)
			}
			for _, conn := range got {
				if conn.Dst.Addr() != c.dst.Addr() || conn.Server.Port() != 5353 || conn.Client != conn.Src || conn.Seconds == 0 {
					t.Errorf("%+v", conn)
				}
			}
		}
	})
}

func inWords(conns []Connection) string {
	var out []string
	for _, c := range conns {
		words := strings.Fields(fmt.Sprintf("%d %s", c.Src.Port(), c.State))
		if c.Answered {
			words = append(words, "answered")
		}
		out = append(out, strings.Join(words, " "))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestConnectionsNameTheCapabilityThatIsMissing(t *testing.T) {
	kerneltest.Enter(t)
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&head, &none[0]); err != nil { // of this thread, which ends with the test
		t.Fatal(err)
	}
	_, err := NewFlows(rules.IPv4).Connections(rules.TCP, netip.AddrPort{}, netip.MustParseAddrPort("10.96.0.10:80"))
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "NET_ADMIN") {
		t.Errorf("error %v", err)
	}
}
