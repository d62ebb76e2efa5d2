//go:build linux

package kernel

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// Flows is the entries of one family in the kernel's conntrack table.
type Flows struct{ family rules.Family }

// NewFlows returns the flows of a family.
func NewFlows(f rules.Family) *Flows { return &Flows{f} }

// protocolNumbers are those of the protocols that Services have.
var protocolNumbers = map[rules.Protocol]uint8{rules.TCP: unix.IPPROTO_TCP, rules.UDP: unix.IPPROTO_UDP, rules.SCTP: unix.IPPROTO_SCTP}

// DeleteFlows deletes the flows over a protocol that stale picks and returns how
// many these were. It holds no table in memory, only what it deletes. After an
// error some may be left.
func (c *Flows) DeleteFlows(ctx context.Context, protocol rules.Protocol, stale func(rules.Flow) bool) (int, error) {
	local, err := c.localAddresses()
	if err != nil {
		return 0, fmt.Errorf("list local addresses: %w", err)
	}
	deleted := 0
	err = readWhole(func() error {
		picked, dumpErr := c.pick(protocol, local, stale)
		n, err := c.delete(ctx, picked)
		deleted += n
		return cmp.Or(err, dumpErr)
	})
	if err != nil {
		return deleted, fmt.Errorf("delete %s flows: %w", protocol, err)
	}
	return deleted, nil
}

// Each calls f for each flow of a protocol, whose Local it leaves out. Where the table
// changes meanwhile a flow may be missed or come twice.
func (c *Flows) Each(protocol rules.Protocol, f func(rules.Flow)) error {
	_, err := c.pick(protocol, &addressSet{}, func(fl rules.Flow) bool { f(fl); return false })
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list %s flows: %w", protocol, err)
	}
	return nil
}

// readTries is how often a table is read that changes while it is read.
const readTries = 5

// readWhole reads a table again as long as the kernel says that some of it may
// be missing.
func readWhole(read func() error) (err error) {
	for range readTries {
		if err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return err
}

// pick returns the entries of stale flows as the kernel sent them. After an error
// they may not be all.
func (c *Flows) pick(protocol rules.Protocol, local *addressSet, stale func(rules.Flow) bool) ([][]byte, error) {
	var picked [][]byte
	err := c.dump(protocol).ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
		if len(msg) < nl.SizeofNfgenmsg {
			return true
		}
		entry := msg[nl.SizeofNfgenmsg:]
		if f, ok := parseFlow(entry, protocol); ok {
			f.Local = local.contains(f.Dst.Addr())
			if stale(f) {
				picked = append(picked, slices.Clone(entry))
			}
		}
		return true
	})
	return picked, err
}

// delete deletes entries. They hold the kernel's ID of the flow, so that another
// one with the same addresses stays; one that is gone already is no error.
func (c *Flows) delete(ctx context.Context, entries [][]byte) (int, error) {
	deleted := 0
	for _, e := range entries {
		if ctx.Err() != nil {
			return deleted, context.Cause(ctx)
		}
		req := c.request(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
		req.AddRawData(e)
		switch _, err := req.Execute(unix.NETLINK_NETFILTER, 0); {
		case err == nil:
			deleted++
		case !errors.Is(err, unix.ENOENT):
			return deleted, err
		}
	}
	return deleted, nil
}

func (c *Flows) request(operation, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(netlink.ConntrackTable<<8|operation, flags)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: netlinkFamily(c.family), Version: nl.NFNETLINK_V0})
	return req
}

// Of linux/netfilter/nfnetlink_conntrack.h and net/netfilter/nf_internals.h, not in package nl.
const (
	ctaFilter          = 25
	ctaFilterOrigFlags = 1

	filterSrc      = 1 << 0
	filterDst      = 1 << 1
	filterProtoNum = 1 << 3
	filterSrcPort  = 1 << 4
	filterDstPort  = 1 << 5

	statusSeenReply = 1 << 1 // IPS_SEEN_REPLY of nf_conntrack_common.h
	statusAssured   = 1 << 2 // IPS_ASSURED
)

// dump asks the kernel for the flows of one protocol: a node has many more of
// TCP.
func (c *Flows) dump(protocol rules.Protocol) *nl.NetlinkRequest {
	return c.dumpLike(tuple{protocol: protocolNumbers[protocol]})
}

// dumpLike asks for the flows whose packets, as the client sends them, have what
// is not zero in want. More may come: kernels before 5.8 do not know the filter and
// send all, and those since take an IPv6 address for one that is not wanted, which
// is why none is asked for (ctnetlink_filter_match_tuple, as of 6.18).
func (c *Flows) dumpLike(want tuple) *nl.NetlinkRequest {
	ip, proto, flags := want.attributes()
	req := c.request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	orig := nl.NewRtAttr(nl.CTA_TUPLE_ORIG|unix.NLA_F_NESTED, nil)
	if flags&(filterSrc|filterDst) != 0 {
		orig.AddChild(ip)
	}
	orig.AddChild(proto)
	req.AddData(orig)
	filter := nl.NewRtAttr(ctaFilter|unix.NLA_F_NESTED, nil)
	filter.AddRtAttr(ctaFilterOrigFlags, nl.Uint32Attr(flags))
	req.AddData(filter)
	return req
}

// attributes writes a tuple as two attributes, and says which fields are there.
func (t tuple) attributes() (ip, proto *nl.RtAttr, flags uint32) {
	ip = nl.NewRtAttr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, nil)
	proto = nl.NewRtAttr(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, nl.Uint8Attr(t.protocol))
	flags = filterProtoNum
	for _, end := range []struct {
		addr               netip.Addr
		port               uint16
		addrName, portName int
		isAddr, isPort     uint32
	}{
		{t.src, t.srcPort, nl.CTA_IP_V4_SRC, nl.CTA_PROTO_SRC_PORT, filterSrc, filterSrcPort},
		{t.dst, t.dstPort, nl.CTA_IP_V4_DST, nl.CTA_PROTO_DST_PORT, filterDst, filterDstPort},
	} {
		if end.addr.Is4() {
			ip.AddRtAttr(end.addrName, end.addr.AsSlice())
			flags |= end.isAddr
		}
		if end.port != 0 {
			proto.AddRtAttr(end.portName, binary.BigEndian.AppendUint16(nil, end.port))
			flags |= end.isPort
		}
	}
	return ip, proto, flags
}

// parseFlow reads an entry; ok is false if it is not of the protocol.
func parseFlow(entry []byte, protocol rules.Protocol) (f rules.Flow, ok bool) {
	var orig, reply tuple
	answered := false
	for t, v := range attributes(entry) {
		switch t {
		case nl.CTA_STATUS:
			answered = bigEndian32(v)&statusSeenReply != 0
		case nl.CTA_TUPLE_ORIG:
			orig = parseTuple(v)
		case nl.CTA_TUPLE_REPLY:
			reply = parseTuple(v)
		}
	}
	f = rules.Flow{
		Protocol: protocol,
		Dst:      netip.AddrPortFrom(orig.dst, orig.dstPort),
		From:     netip.AddrPortFrom(reply.src, reply.srcPort),
		Answered: answered,
	}
	return f, orig.protocol == protocolNumbers[protocol] && f.Dst.IsValid() && f.From.IsValid()
}

// tuple is one direction of a flow; what the kernel did not say is zero.
type tuple struct {
	protocol         uint8
	src, dst         netip.Addr
	srcPort, dstPort uint16
}

func parseTuple(b []byte) (out tuple) {
	for t, v := range attributes(b) {
		for t2, v := range attributes(v) {
			switch {
			case t == nl.CTA_TUPLE_IP && (t2 == nl.CTA_IP_V4_SRC || t2 == nl.CTA_IP_V6_SRC):
				out.src, _ = netip.AddrFromSlice(v)
			case t == nl.CTA_TUPLE_IP && (t2 == nl.CTA_IP_V4_DST || t2 == nl.CTA_IP_V6_DST):
				out.dst, _ = netip.AddrFromSlice(v)
			case t == nl.CTA_TUPLE_PROTO && t2 == nl.CTA_PROTO_NUM && len(v) == 1:
				out.protocol = v[0]
			case t == nl.CTA_TUPLE_PROTO && t2 == nl.CTA_PROTO_SRC_PORT && len(v) == 2:
				out.srcPort = binary.BigEndian.Uint16(v)
			case t == nl.CTA_TUPLE_PROTO && t2 == nl.CTA_PROTO_DST_PORT && len(v) == 2:
				out.dstPort = binary.BigEndian.Uint16(v)
			}
		}
	}
	return out
}

// attributes walks the attributes of a netlink message, up to one that is cut off.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofNlAttr || size > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&nl.NLA_TYPE_MASK, b[unix.SizeofNlAttr:size]) {
				return
			}
			b = b[min((size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
		}
	}
}

// addressSet is the addresses for which packets end on this node.
type addressSet struct {
	single map[netip.Addr]bool
	ranges []netip.Prefix
}

func (s *addressSet) contains(a netip.Addr) bool {
	return s.single[a] || slices.ContainsFunc(s.ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// localAddresses reads the routes of type local, as the rules do that match
// packets to the node: addresses of interfaces are not all.
func (c *Flows) localAddresses() (*addressSet, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL}
	var routes []netlink.Route
	err := readWhole(func() (err error) {
		routes, err = netlink.RouteListFiltered(int(netlinkFamily(c.family)), filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
		return err
	})
	if err != nil {
		return nil, err
	}
	set := &addressSet{single: map[netip.Addr]bool{}}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		a, _ := netip.AddrFromSlice(r.Dst.IP)
		if rules.FamilyOf(a.Unmap()) == c.family {
			a = a.Unmap()
		}
		if bits, _ := r.Dst.Mask.Size(); bits < a.BitLen() {
			set.ranges = append(set.ranges, netip.PrefixFrom(a, bits))
		} else {
			set.single[a] = true
		}
	}
	return set, nil
}
