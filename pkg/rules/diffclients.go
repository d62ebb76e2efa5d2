package rules

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Client is where a packet comes from, one for all that rules do not tell apart.
type Client struct {
	Node bool       // the node itself
	Addr netip.Addr // its source
	In   string     // the interface it came in by; empty: any
	Seen string     // list of recent that it is on; empty: none
}

// packet is the first packet of a connection of the client.
func (c *Client) packet(to destination) Packet {
	const port = 40000 // no rule asks
	p := Packet{FromNode: c.Node, In: c.In, Protocol: to.protocol, Src: netip.AddrPortFrom(c.Addr, port), Dst: to.addr}
	if c.Seen != "" {
		p.Seen = []string{c.Seen}
	}
	return p
}

// clients returns one of each kind of client that rules tell apart: by source
// addresses, by interfaces, and by lists of recent, which are tried from one address
// alone. The node's own packets may have any source, as it has more addresses than
// those that are known.
func clients(f Family, host *Host, to netip.Addr, tables ...[]Table) []Client {
	a := mentioned(tables)
	var out []Client
	sources := representatives(f, host, a.sources)
	for _, addr := range append(nodeSources(f, host, to), sources...) {
		out = append(out, Client{Node: true, Addr: addr})
	}
	for _, addr := range sources {
		for _, in := range a.interfaceNames() {
			out = append(out, Client{Addr: addr, In: in})
		}
	}
	for _, list := range a.lists {
		seen := out[len(out)-1]
		seen.Seen = list
		out = append(out, seen)
	}
	return out
}

// nodeSources are addresses of the node itself, and that of the destination, which it
// may hold too.
func nodeSources(f Family, host *Host, to netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range append(slices.Clone(host.Addresses), localhostOf(f), to) {
		if FamilyOf(a) == f && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// localhostOf is 127.0.0.1 or ::1.
func localhostOf(f Family) netip.Addr {
	if f == IPv6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// asked is what rules ask of where a packet comes from.
type asked struct {
	sources    []netip.Prefix
	interfaces []string
	lists      []string
}

func mentioned(all [][]Table) *asked {
	a := &asked{}
	for _, tables := range all {
		for i := range tables {
			for _, c := range tables[i].Chains {
				for j := range c.Rules {
					a.rule(&c.Rules[j])
				}
			}
		}
	}
	slices.SortFunc(a.sources, func(p, q netip.Prefix) int { return cmp.Or(p.Addr().Compare(q.Addr()), p.Bits()-q.Bits()) })
	a.sources = slices.Compact(a.sources)
	for _, list := range []*[]string{&a.interfaces, &a.lists} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return a
}

func (a *asked) rule(r *Rule) {
	if p := r.Src.Prefix; p.IsValid() {
		a.sources = append(a.sources, p)
	}
	x := r.Rare()
	if x.In.Name != "" {
		a.interfaces = append(a.interfaces, x.In.Name)
	}
	if x.Recent.Op == RecentCheck {
		a.lists = append(a.lists, x.Recent.List)
	}
}

// interfaceNames returns one name for each match of an interface, and first one that
// matches none; only "" if nobody asks.
func (a *asked) interfaceNames() []string {
	if len(a.interfaces) == 0 {
		return []string{""}
	}
	other := "other0"
	for slices.ContainsFunc(a.interfaces, func(m string) bool {
		begins := strings.TrimSuffix(m, "+")
		return begins != "" && strings.HasPrefix(other, begins) // "+" matches them all
	}) {
		other = "x" + other
	}
	out := []string{other}
	for _, m := range a.interfaces {
		out = append(out, strings.Replace(m, "+", "0", 1))
	}
	return out
}

// representatives returns an address of each class of those that the ranges tell
// apart. Ranges lie in each other or apart, so the smallest one that holds an address
// is its class; one of each is at the beginning of a range, or behind the end of one.
func representatives(f Family, host *Host, ranges []netip.Prefix) []netip.Addr {
	classes := newClassifier(ranges)
	var out []netip.Addr
	taken := map[netip.Prefix]bool{}
	add := func(a netip.Addr) {
		if !a.IsValid() || FamilyOf(a) != f || host.local(a) {
			return
		}
		if class := classes.of(a); !taken[class] {
			taken[class] = true
			out = append(out, a)
		}
	}
	add(documentation(f))
	for _, r := range ranges {
		first := r.Masked().Addr()
		if !r.IsSingleIP() {
			add(first.Next()) // rather than the address of a network
		}
		add(first)
		add(lastOf(r).Next())
	}
	for _, a := range host.Addresses {
		add(a.Next())
		add(a.Prev())
	}
	return out
}

// documentation is an address that no network has (RFC 5737, RFC 3849).
func documentation(f Family) netip.Addr {
	if f == IPv6 {
		return netip.MustParseAddr("2001:db8::1")
	}
	return netip.AddrFrom4([4]byte{192, 0, 2, 1})
}

// lastOf is the last address of a range.
func lastOf(r netip.Prefix) netip.Addr {
	b := r.Masked().Addr().AsSlice()
	for i := r.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// classifier finds the smallest range that holds an address.
type classifier struct {
	ranges map[netip.Prefix]bool
	bits   []int // lengths of ranges, longest first
}

func newClassifier(ranges []netip.Prefix) *classifier {
	c := &classifier{ranges: map[netip.Prefix]bool{}}
	for _, r := range ranges {
		c.ranges[r.Masked()] = true
		c.bits = append(c.bits, r.Bits())
	}
	slices.Sort(c.bits)
	slices.Reverse(c.bits)
	c.bits = slices.Compact(c.bits)
	return c
}

// of returns that range; the zero one if there is none.
func (c *classifier) of(a netip.Addr) netip.Prefix {
	for _, bits := range c.bits {
		if p, err := a.Prefix(bits); err == nil && c.ranges[p] {
			return p
		}
	}
	return netip.Prefix{}
}
