package main

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// rawPacket is the first packet of a connection as it is on the wire. The id is
// where address translation leaves it alone: TCP's sequence number, the payload of
// UDP, the tag that SCTP begins with.
type rawPacket struct {
	protocol rules.Protocol
	src, dst netip.AddrPort
	id       uint32
}

// transportNumbers are those of protocols in an IP header.
var transportNumbers = map[rules.Protocol]byte{rules.TCP: unix.IPPROTO_TCP, rules.UDP: unix.IPPROTO_UDP, rules.SCTP: unix.IPPROTO_SCTP}

// bytes returns the packet with its IP header.
func (p rawPacket) bytes() []byte {
	body := p.transport()
	if p.src.Addr().Is4() {
		h := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, transportNumbers[p.protocol], 0, 0}
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
		h = append(append(h, p.src.Addr().AsSlice()...), p.dst.Addr().AsSlice()...)
		binary.BigEndian.PutUint16(h[10:], ^checksum(0, h))
		return append(h, body...)
	}
	h := []byte{0x60, 0, 0, 0, 0, byte(len(body)), transportNumbers[p.protocol], 64}
	h = append(append(h, p.src.Addr().AsSlice()...), p.dst.Addr().AsSlice()...)
	return append(h, body...)
}

// transport returns the packet without its IP header.
func (p rawPacket) transport() []byte {
	b := binary.BigEndian.AppendUint16(nil, p.src.Port())
	b = binary.BigEndian.AppendUint16(b, p.dst.Port())
	switch p.protocol {
	case rules.TCP: // a SYN
		b = binary.BigEndian.AppendUint32(b, p.id)
		b = append(b, 0, 0, 0, 0, 5<<4, 0x02, 0x04, 0x00, 0, 0, 0, 0)
		binary.BigEndian.PutUint16(b[16:], p.checksum(b))
	case rules.UDP:
		b = append(b, 0, 12, 0, 0)
		b = binary.BigEndian.AppendUint32(b, p.id)
		binary.BigEndian.PutUint16(b[6:], p.checksum(b))
	case rules.SCTP: // an INIT chunk
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20)
		b = binary.BigEndian.AppendUint32(b, p.id)
		b = append(b, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1)
		binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

// checksum is that of TCP and UDP, which covers part of the IP header.
func (p rawPacket) checksum(b []byte) uint16 {
	sum := checksum(0, p.src.Addr().AsSlice())
	sum = checksum(sum, p.dst.Addr().AsSlice())
	sum = checksum(sum, []byte{0, transportNumbers[p.protocol], byte(len(b) >> 8), byte(len(b))})
	return ^checksum(sum, b)
}

// checksum adds an even number of bytes to the ones' complement sum of the Internet.
func checksum(sum uint16, b []byte) uint16 {
	total := uint32(sum)
	for i := 0; i+1 < len(b); i += 2 {
		total += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}

// parseIP reads a packet with its IP header; ok is false if it is none of ours. A
// refusal is that of the packet that it quotes.
func parseIP(b []byte) (p rawPacket, refused, ok bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		src, _ := netip.AddrFromSlice(b[12:16])
		dst, _ := netip.AddrFromSlice(b[16:20])
		return parseBody(b[9], src, dst, b[min(len(b), int(b[0]&15)*4):])
	case len(b) >= 40 && b[0]>>4 == 6:
		src, _ := netip.AddrFromSlice(b[8:24])
		dst, _ := netip.AddrFromSlice(b[24:40])
		return parseBody(b[6], src, dst, b[40:])
	}
	return p, false, false
}

// The ICMP messages by which a port is refused.
const (
	icmpUnreachable   = 3
	icmpv6Unreachable = 1
)

func parseBody(protocol byte, src, dst netip.Addr, b []byte) (p rawPacket, refused, ok bool) {
	if len(b) < 8 {
		return p, false, false
	}
	p.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	p.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	at := 0
	switch protocol {
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		if b[0] != icmpUnreachable && b[0] != icmpv6Unreachable {
			return p, false, false
		}
		p, _, ok = parseIP(b[8:])
		return p, true, ok
	case unix.IPPROTO_TCP:
		p.protocol, at = rules.TCP, 4
		if len(b) >= 14 && b[13] != 0x02 {
			return p, false, false // not a SYN
		}
	case unix.IPPROTO_UDP:
		p.protocol, at = rules.UDP, 8
	case unix.IPPROTO_SCTP:
		p.protocol, at = rules.SCTP, 16
	default:
		return p, false, false
	}
	if len(b) < at+4 {
		return p, false, false
	}
	p.id = binary.BigEndian.Uint32(b[at:])
	return p, false, true
}
