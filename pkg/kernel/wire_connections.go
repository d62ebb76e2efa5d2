//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// Connections returns those from src to dst that conntrack knows. What is zero in
// src, or as port of dst, is any. It needs CAP_NET_ADMIN.
func (c *Flows) Connections(protocol rules.Protocol, src, dst netip.AddrPort) ([]Connection, error) {
	want := tuple{protocol: protocolNumbers[protocol], src: src.Addr(), dst: dst.Addr(), srcPort: src.Port(), dstPort: dst.Port()}
	var out []Connection
	err := readWhole(func() error {
		out = nil
		return c.dumpLike(want).ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
			if len(msg) < nl.SizeofNfgenmsg {
				return true
			}
			if conn, orig := parseConnection(msg[nl.SizeofNfgenmsg:]); orig.like(want) {
				out = append(out, conn)
			}
			return true
		})
	})
	switch {
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("list connections of conntrack: it takes the capability NET_ADMIN: run as root, or in the pod of svcproxy: %w", err)
	case err != nil:
		return nil, fmt.Errorf("list connections of conntrack: %w", err)
	}
	return out, nil
}

// like reports whether a tuple has what is not zero in want.
func (t tuple) like(want tuple) bool {
	return t.protocol == want.protocol &&
		(!want.src.IsValid() || t.src == want.src) && (!want.dst.IsValid() || t.dst == want.dst) &&
		(want.srcPort == 0 || t.srcPort == want.srcPort) && (want.dstPort == 0 || t.dstPort == want.dstPort)
}

func parseConnection(entry []byte) (c Connection, orig tuple) {
	var reply tuple
	for t, v := range attributes(entry) {
		switch t {
		case nl.CTA_TUPLE_ORIG:
			orig = parseTuple(v)
		case nl.CTA_TUPLE_REPLY:
			reply = parseTuple(v)
		case nl.CTA_STATUS:
			c.Answered, c.Assured = bigEndian32(v)&statusSeenReply != 0, bigEndian32(v)&statusAssured != 0
		case nl.CTA_TIMEOUT:
			c.Seconds = bigEndian32(v)
		case nl.CTA_PROTOINFO:
			c.State = tcpState(v)
		}
	}
	c.Src, c.Dst = netip.AddrPortFrom(orig.src, orig.srcPort), netip.AddrPortFrom(orig.dst, orig.dstPort)
	c.Server, c.Client = netip.AddrPortFrom(reply.src, reply.srcPort), netip.AddrPortFrom(reply.dst, reply.dstPort)
	return c, orig
}

// bigEndian32 is an attribute's value of four bytes; of another length, 0.
func bigEndian32(v []byte) uint32 {
	if len(v) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

// tcpStates are those of linux/netfilter/nf_conntrack_tcp.h, in conntrack's words.
var tcpStates = []string{"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

// tcpState returns the state in a CTA_PROTOINFO; empty if that is not TCP's.
func tcpState(protoinfo []byte) string {
	for t, v := range attributes(protoinfo) {
		if t != nl.CTA_PROTOINFO_TCP {
			continue
		}
		for t, v := range attributes(v) {
			if t == nl.CTA_PROTOINFO_TCP_STATE && len(v) == 1 && int(v[0]) < len(tcpStates) {
				return tcpStates[v[0]]
			}
		}
	}
	return ""
}
