//go:build linux

package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// routeTypes are those of routes that the kernel tells; of the others it tells the
// error that they stand for.
var routeTypes = map[uint8]string{
	unix.RTN_UNICAST: routeUnicast, unix.RTN_LOCAL: routeLocal, unix.RTN_BROADCAST: "broadcast",
	unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast",
}

// lookup is a question for a route. What is zero plays no part in it.
type lookup struct {
	src, dst         netip.Addr
	in, out          int // index of a device; without in, the packet is made on the node
	mark             uint32
	protocol         rules.Protocol
	srcPort, dstPort uint16
}

// route asks the kernel, which checks a packet that came in as it does with real
// ones: a route of type blackhole, a forbidden source and the like are errno.
func (l lookup) route() (*Route, error) {
	used, err := l.ask(unix.RTM_F_LOOKUP_TABLE)
	if err != nil {
		return nil, err
	}
	// The answer is for this very destination; a second one has the entry of the table.
	if entry, err := l.ask(unix.RTM_F_LOOKUP_TABLE | unix.RTM_F_FIB_MATCH); err == nil {
		used.Prefix, used.Table, used.Paths = entry.Prefix, entry.Table, entry.Paths
	}
	return used, nil
}

func (l lookup) ask(flags uint32) (*Route, error) {
	bits := uint8(l.dst.BitLen())
	msg := &nl.RtMsg{RtMsg: unix.RtMsg{Family: netlinkFamily(rules.FamilyOf(l.dst)), Dst_len: bits, Flags: flags}}
	attrs := []*nl.RtAttr{nl.NewRtAttr(unix.RTA_DST, l.dst.AsSlice())}
	if l.src.IsValid() {
		msg.Src_len = bits
		attrs = append(attrs, nl.NewRtAttr(unix.RTA_SRC, l.src.AsSlice()))
	}
	for _, a := range []struct {
		name  int
		value uint32
	}{{unix.RTA_IIF, uint32(l.in)}, {unix.RTA_OIF, uint32(l.out)}, {unix.RTA_MARK, l.mark}} {
		if a.value != 0 {
			attrs = append(attrs, nl.NewRtAttr(a.name, nl.Uint32Attr(a.value)))
		}
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	req.AddData(msg)
	for _, a := range append(attrs, l.transport()...) {
		req.AddData(a)
	}
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if err != nil {
		return nil, err
	}
	if len(answers) == 0 || len(answers[0]) < unix.SizeofRtMsg {
		return nil, fmt.Errorf("no answer")
	}
	return parseRoute(answers[0]), nil
}

// transport is what rules that choose a routing table may look at besides. The
// kernel wants both ports or none, and none of 0.
func (l lookup) transport() []*nl.RtAttr {
	number, known := protocolNumbers[l.protocol]
	if !known || number == unix.IPPROTO_SCTP { // which the kernel does not take
		return nil
	}
	out := []*nl.RtAttr{nl.NewRtAttr(unix.RTA_IP_PROTO, nl.Uint8Attr(number))}
	for name, port := range map[int]uint16{unix.RTA_SPORT: l.srcPort, unix.RTA_DPORT: l.dstPort} {
		if port != 0 {
			out = append(out, nl.NewRtAttr(name, binary.BigEndian.AppendUint16(nil, port)))
		}
	}
	return out
}

func parseRoute(msg []byte) *Route {
	head := nl.DeserializeRtMsg(msg)
	r := &Route{Type: routeTypes[head.Type], Table: uint32(head.Table)}
	dst := netip.IPv4Unspecified()
	if head.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for t, v := range attributes(msg[unix.SizeofRtMsg:]) {
		switch t {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(v)
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(v)
		case unix.RTA_VIA: // of the other family, which the first two bytes name
			r.Gateway, _ = netip.AddrFromSlice(v[min(2, len(v)):])
		case unix.RTA_PREFSRC:
			r.Source, _ = netip.AddrFromSlice(v)
		case unix.RTA_OIF:
			r.index = int(number32(v))
		case unix.RTA_TABLE:
			r.Table = number32(v)
		case unix.RTA_MULTIPATH:
			r.Paths = countPaths(v)
		}
	}
	r.Prefix = netip.PrefixFrom(dst, int(head.Dst_len))
	return r
}

// countPaths counts the next hops (struct rtnexthop).
func countPaths(b []byte) (n int) {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		n++
		b = b[size:]
	}
	return n
}

// number32 is an attribute's value of four bytes; of another length, 0.
func number32(v []byte) uint32 {
	if len(v) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

func netlinkFamily(f rules.Family) uint8 {
	if f == rules.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
