package rules

import (
	"cmp"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
)

// A packet finds its Service by its destination. In one long list every new
// connection on the node would pay for all Services, its own or not (KEP-3866
// measures it). So from leafSize rules on the list becomes a prefix tree: a chain
// leads on by four more bits of the address, or of the port where many rules
// have one address, down to leaves of few rules. Fewer rules stay a list, which
// is kube-proxy's.
const (
	leafSize = 16
	nibble   = 4 // bits a level

	// maxTreeDepth bounds the chains below the root; a leaf at the bottom grows. The nft
	// backend takes 15 chains in a row, and behind a leaf come KUBE-FW, KUBE-EXT,
	// KUBE-SVC with its bucket, KUBE-SEP and KUBE-MARK-MASQ.
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
	return []Rule{Rule{Dst: AddrMatch{Prefix: all}}.to(d.add(hexNibbles(all), d.addresses(rules, 1)))}
}

// addresses returns what stands in a chain at the given depth for rules that are
// sorted by address.
func (d *dispatcher) addresses(rules []Rule, depth int) []Rule {
	if len(rules) <= d.leaf || depth == maxTreeDepth {
		return rules
	}
	common := commonPrefix(rules)
	if common.IsSingleIP() {
		return d.ports(rules, hexNibbles(common), depth)
	}
	var out []Rule
	for group := range groups(rules, func(r *Rule) int { return nibbleAt(r.Dst.Prefix.Addr(), common.Bits()) }) {
		if len(group) == 1 {
			out = append(out, group[0])
			continue
		}
		to := commonPrefix(group)
		out = append(out, Rule{Dst: AddrMatch{Prefix: to}}.to(d.add(hexNibbles(to), d.addresses(group, depth+1))))
	}
	return out
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
	part := (int(in.Last) - int(in.First) + 1) >> nibble
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

// commonPrefix returns the longest range of whole nibbles that holds the
// destinations of all rules, which are sorted.
func commonPrefix(rules []Rule) netip.Prefix {
	first, last := rules[0].Dst.Prefix.Addr(), rules[len(rules)-1].Dst.Prefix.Addr()
	bits := first.BitLen()
	for p := netip.PrefixFrom(first, bits); !p.Contains(last); p = netip.PrefixFrom(first, bits) {
		bits -= nibble
	}
	return netip.PrefixFrom(first, bits).Masked()
}

// nibbleAt returns the four bits of an address behind the first bits.
func nibbleAt(a netip.Addr, bits int) int {
	b := a.AsSlice()[bits/8]
	if bits%8 == 0 {
		return int(b >> nibble)
	}
	return int(b & 0xf)
}

// hexNibbles writes the fixed part of a range of whole nibbles: 10.96.0.0/12 is 0A6.
func hexNibbles(p netip.Prefix) string {
	return strings.ToUpper(hex.EncodeToString(p.Addr().AsSlice()))[:p.Bits()/nibble]
}

// portNibbles writes the protocol and the fixed part of a range of ports: T7 for
// 28672 to 32767 of TCP.
func portNibbles(p Protocol, r PortRange) string {
	digits := strings.ToUpper(hex.EncodeToString([]byte{byte(r.First >> 8), byte(r.First)}))
	fixed := 4
	for n := int(r.Last) - int(r.First) + 1; n > 1; n >>= nibble {
		fixed--
	}
	return string(protocolLetter(p)) + digits[:fixed]
}

// protocolLetter is no hexadecimal digit, so that names cannot be taken for others.
func protocolLetter(p Protocol) byte { return strings.ToUpper(string(p))[0] }
