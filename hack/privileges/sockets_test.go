package privileges

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// tcpListens is the state of a socket that connections can be made to.
const tcpListens = "0A"

// sockets lists the sockets in the network namespace of a process that anybody can
// send something to, as "tcp 127.0.0.1:10249", sorted.
func sockets(t *testing.T, pid int) []string {
	t.Helper()
	var out []string
	for _, protocol := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "raw6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, protocol))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			fields := strings.Fields(line)
			if i == 0 || len(fields) < 4 || strings.HasPrefix(protocol, "tcp") && fields[3] != tcpListens {
				continue
			}
			out = append(out, protocol+" "+parseSocket(t, fields[1]).String())
		}
	}
	slices.Sort(out)
	return out
}

// parseSocket reads an address as the kernel prints it, in words of the machine's
// byte order.
func parseSocket(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	addr, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(addr)
	if err != nil {
		t.Fatalf("socket %q: %v", text, err)
	}
	for i := 0; i+4 <= len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	a, _ := netip.AddrFromSlice(b)
	p, err := hex.DecodeString(port)
	if err != nil || len(p) != 2 {
		t.Fatalf("socket %q: %v", text, err)
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(p))
}
