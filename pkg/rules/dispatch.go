package rules

import (
	"cmp"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A packet finds its Service by its destination. In one long list every new
// connection on the node would pay for all Services, its own or not (KEP-3866
// measures it). So from leafSize rules on the list becomes a prefix tree: a chain
// leads on by a few more bits of the address, or of the port where many rules
// have one address, down to leaves of few rules. Fewer rules stay a list, which
// is kube-proxy's.
const (
	leafSize = 16

	// Bits a level: a packet meets half as many rules in two chains of four as in
	// one of sixteen, but there are only so many chains in a row.
	fine   = 2
	coarse = 4

	// maxTreeDepth bounds the chains below the root; a leaf at the bottom grows. The nft
	// backend takes 15 chains in a row, and behind a leaf come KUBE-FW, KUBE-EXT,
	// KUBE-SVC, a group of buckets, a bucket, KUBE-SEP and KUBE-MARK-MASQ.
	maxTreeDepth = 7
)

// dispatcher makes the chains that lead a packet from the chain root to the rule
// for its destination.
type dispatcher struct {
	root   string // table-wide name of the first chain
	prefix string // what the names of all others begin with
	leaf   int    // rules that a chain may have before it is divided
	chains []*Chain
}

// dispatch returns the chains that lead from the chain root to rules, and behind
// them to tail, which any packet may meet that none of rules took. Each of rules
// matches one destination address, or none and one port; prefix begins the names
// of chains other than root.
func dispatch(cfg *Config, root, prefix string, rules, tail []Rule) []*Chain {
	d := &dispatcher{root: root, prefix: prefix, leaf: cmp.Or(cfg.leaf, leafSize)}
	if len(rules) > d.leaf {
		rules = d.divide(rules)
	}
	all := make([]Rule, 0, len(rules)+len(tail))
	all = append(append(all, rules...), tail...)
	return append(d.chains, &Chain{Name: root, Rules: all})
}

// divide tells rules for an address from those for node ports, which come later:
// who has the address goes before who has the port on all addresses.
func (d *dispatcher) divide(rules []Rule) []Rule {
	var addressed, ports []Rule
	for _, r := range rules {
		if r.Dst.Prefix.IsValid() {
			addressed = append(addressed, r)
		} else {
			ports = append(ports, r)
		}
	}
	slices.SortStableFunc(addressed, func(a, b Rule) int { return a.Dst.Prefix.Addr().Compare(b.Dst.Prefix.Addr()) })
	return append(d.network(addressed), d.ports(ports, "", 0)...)
}

// network returns one rule for the range that all addresses are in, which spares
// all other packets a look at its parts; mostly that is the Service network.
func (d *dispatcher) network(rules []Rule) []Rule {
	if len(rules) <= d.leaf {
		return rules
	}
	all := commonPrefix(rules)
	if all.Bits() == 0 {
		return d.addresses(rules, 0)
	}
	return []Rule{Rule{Dst: AddrMatch{Prefix: all}}.to(d.add(prefixName(all), d.addresses(rules, 1)))}
}

// addresses returns what stands in a chain at the given depth for rules that are
// sorted by address.
func (d *dispatcher) addresses(rules []Rule, depth int) []Rule {
	if len(rules) <= d.leaf || depth == maxTreeDepth {
		return rules
	}
	common := commonPrefix(rules)
	if common.IsSingleIP() {
		return d.ports(rules, prefixName(common), depth)
	}
	var out []Rule
	for group := range byAddress(rules, common.Bits(), d.step(rules, common.Bits(), depth)) {
		if len(group) == 1 {
			out = append(out, group[0])
			continue
		}
		to := commonPrefix(group)
		out = append(out, Rule{Dst: AddrMatch{Prefix: to}}.to(d.add(prefixName(to), d.addresses(group, depth+1))))
	}
	return out
}

// step says by how many bits behind the first ones the chain at a depth leads on:
// few, unless coarse levels would not do any more, behind that one, to tell apart
// what is in one of its parts, wherever that is.
func (d *dispatcher) step(rules []Rule, bits, depth int) int {
	below := maxTreeDepth - depth - 1
	for group := range byAddress(rules, bits, fine) {
		if len(group) <= d.leaf {
			continue
		}
		all := commonPrefix(group)
		open := all.Addr().BitLen() - all.Bits() - coarse // a leaf holds sixteen addresses
		if open > below*coarse {
			return coarse
		}
	}
	return fine
}

// ports returns what stands in a chain for rules that differ by protocol and port
// alone; name tells the chain from those of other addresses.
func (d *dispatcher) ports(rules []Rule, name string, depth int) []Rule {
	if len(rules) <= d.leaf {
		return rules
	}
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, b Rule) int {
		return cmp.Or(strings.Compare(string(a.Protocol), string(b.Protocol)), cmp.Compare(a.DstPort.First, b.DstPort.First))
	})
	var out []Rule
	for group := range groups(rules, func(r *Rule) int { return int(protocolLetter(r.Protocol)) }) {
		out = append(out, d.portRange(group, name, PortRange{0, 1<<16 - 1}, depth)...)
	}
	return out
}

// portRange returns the rules of one protocol for ports in a range, or jumps to
// chains for sixteen parts of it.
func (d *dispatcher) portRange(rules []Rule, name string, in PortRange, depth int) []Rule {
	part := (int(in.Last) - int(in.First) + 1) >> coarse
	if len(rules) <= d.leaf || depth == maxTreeDepth || part == 0 {
		return rules
	}
	var out []Rule
	for group := range groups(rules, func(r *Rule) int { return int(r.DstPort.First) / part }) {
		if len(group) == 1 {
			out = append(out, group[0])
			continue
		}
		first := int(group[0].DstPort.First) / part * part
		to := PortRange{uint16(first), uint16(first + part - 1)}
		below := d.portRange(group, name, to, depth+1)
		r := Rule{Dst: group[0].Dst, Protocol: group[0].Protocol, DstPort: to, DstLocal: group[0].DstLocal}
		out = append(out, r.to(d.add(name+portNibbles(group[0].Protocol, to), below)))
	}
	return out
}

// add makes a chain whose name ends in where it leads.
func (d *dispatcher) add(where string, rules []Rule) string {
	name := d.prefix + where
	if len(name) > maxChainName {
		name = d.prefix + "H" + shortHash(where)
		name = name[:min(len(name), maxChainName)]
	}
	d.chains = append(d.chains, &Chain{Name: name, Rules: rules})
	return name
}

// maxChainName is the kernel's limit (XT_EXTENSION_MAXNAMELEN less the zero).
const maxChainName = 28

// groups cuts rules where the key changes.
func groups(rules []Rule, key func(*Rule) int) func(yield func([]Rule) bool) {
	return func(yield func([]Rule) bool) {
		for len(rules) > 0 {
			n := 1
			for n < len(rules) && key(&rules[n]) == key(&rules[0]) {
				n++
			}
			if !yield(rules[:n:n]) {
				return
			}
			rules = rules[n:]
		}
	}
}

// byAddress cuts rules, which are sorted, where n bits of the address behind the
// first ones change.
func byAddress(rules []Rule, bits, n int) func(yield func([]Rule) bool) {
	return groups(rules, func(r *Rule) int { return bitsAt(r.Dst.Prefix.Addr(), bits, n) })
}

// commonPrefix returns the longest range of whole steps that holds the
// destinations of all rules, which are sorted.
func commonPrefix(rules []Rule) netip.Prefix {
	first, last := rules[0].Dst.Prefix.Addr(), rules[len(rules)-1].Dst.Prefix.Addr()
	bits := first.BitLen()
	for p := netip.PrefixFrom(first, bits); !p.Contains(last); p = netip.PrefixFrom(first, bits) {
		bits -= fine
	}
	return netip.PrefixFrom(first, bits).Masked()
}

// bitsAt returns n bits of an address, at most eight, behind the first ones.
func bitsAt(a netip.Addr, bits, n int) int {
	all := a.As16()
	at := len(all)*8 - a.BitLen() + bits
	window := int(all[at/8]) << 8
	if at/8+1 < len(all) {
		window |= int(all[at/8+1])
	}
	return window >> (16 - at%8 - n) & (1<<n - 1)
}

// prefixName writes the fixed part of a range in hexadecimal, and how many bits of
// it count where the last digit is not fixed as a whole: 10.96.0.0/12 is 0A6 and
// 10.100.0.0/14 is 0A64-14.
func prefixName(p netip.Prefix) string {
	digits := strings.ToUpper(hex.EncodeToString(p.Addr().AsSlice()))
	if p.Bits()%4 == 0 {
		return digits[:p.Bits()/4]
	}
	return digits[:p.Bits()/4+1] + "-" + strconv.Itoa(p.Bits())
}

// portNibbles writes the protocol and the fixed part of a range of ports: T7 for
// 28672 to 32767 of TCP.
func portNibbles(p Protocol, r PortRange) string {
	digits := strings.ToUpper(hex.EncodeToString([]byte{byte(r.First >> 8), byte(r.First)}))
	fixed := 4
	for n := int(r.Last) - int(r.First) + 1; n > 1; n >>= coarse {
		fixed--
	}
	return string(protocolLetter(p)) + digits[:fixed]
}

// protocolLetter is no hexadecimal digit, so that names cannot be taken for others.
func protocolLetter(p Protocol) byte { return strings.ToUpper(string(p))[0] }
