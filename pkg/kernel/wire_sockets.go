//go:build linux

package kernel

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// Of linux/sock_diag.h, linux/inet_diag.h and net/tcp_states.h.
const (
	sockDiagByFamily = 20
	diagRequestSize  = 56
	diagAnswerSize   = 72

	stateListen      = 1 << 10 // of TCP
	stateUnconnected = 1 << 7  // of UDP
)

// diagRequest is struct inet_diag_req_v2: all sockets of a protocol in some states.
type diagRequest struct {
	family, protocol uint8
	states           uint32
}

func (r diagRequest) Len() int { return diagRequestSize }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = r.family, r.protocol
	binary.NativeEndian.PutUint32(b[4:], r.states)
	return b
}

// listens reports whether a socket of the node gets what is for an address and
// port. A socket for all addresses of IPv6 gets what is for IPv4, too, as is usual.
// It is also true if that cannot be found out.
func listens(protocol rules.Protocol, at netip.AddrPort) bool {
	states := map[rules.Protocol]uint32{rules.TCP: stateListen, rules.UDP: stateUnconnected}[protocol]
	if states == 0 {
		return true
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		req := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
		req.AddData(diagRequest{family, protocolNumbers[protocol], states})
		sockets, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
		if err != nil {
			return true
		}
		for _, s := range sockets {
			if bound, ok := parseSocket(s); ok && bound.Port() == at.Port() && (bound.Addr().IsUnspecified() || bound.Addr().Unmap() == at.Addr()) {
				return true
			}
		}
	}
	return false
}

// parseSocket reads what a socket is bound to from struct inet_diag_msg.
func parseSocket(msg []byte) (netip.AddrPort, bool) {
	if len(msg) < diagAnswerSize {
		return netip.AddrPort{}, false
	}
	size := 4
	if msg[0] == unix.AF_INET6 {
		size = 16
	}
	addr, ok := netip.AddrFromSlice(msg[8 : 8+size])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(msg[4:])), ok
}
