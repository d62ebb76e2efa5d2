package rules

import (
	"math"
	"net/netip"
	"unique"
)

// Rule is one iptables rule: a conjunction of matches, then what to do. The
// zero value of each field means "not there". Rules are compared with ==, so
// every field is in the form the kernel keeps it in, whatever text it came from.
type Rule struct {
	Src, Dst  AddrMatch
	Protocol  Protocol
	Comment   string
	DstPort   PortRange
	Statistic Probability
	SrcLocal  bool // -m addrtype --src-type LOCAL
	DstLocal  bool // -m addrtype --dst-type LOCAL
	Target    Target
	rare      unique.Handle[Rare] // its zero value: the zero Rare
}

// Rare is what few rules have. Rules hold a handle of it: a cluster of 10,000
// Services has 80,000 rules, which this makes smaller by a third.
type Rare struct {
	In     InterfaceMatch
	State  StateMatch
	Mark   MarkMatch
	Recent Recent
	NFAcct string // -m nfacct: count the packet in this object, which must exist

	SetMark     MarkUpdate // of the target MARK
	RandomFully bool       // of the target MASQUERADE
	RejectWith  string     // of the target REJECT; empty: port unreachable, the default

	// Unparsed is the whole specification of a rule that holds something this
	// package does not know; only Target.Name is filled in besides. Such a rule
	// belongs to somebody else and equals none of ours; it is rendered only where a
	// chain that holds it is written again.
	Unparsed string
}

// Rare returns the parts that few rules have.
func (r *Rule) Rare() Rare {
	if r.rare == (unique.Handle[Rare]{}) {
		return Rare{}
	}
	return r.rare.Value()
}

// With returns the rule with these parts in place of those it had.
func (r Rule) With(x Rare) Rule {
	r.rare = unique.Handle[Rare]{}
	if x != (Rare{}) {
		r.rare = unique.Make(x)
	}
	return r
}

// AddrMatch matches the source or destination address.
type AddrMatch struct {
	Prefix netip.Prefix // invalid: any
	Not    bool
}

// InterfaceMatch matches the incoming interface. A name that ends in + matches
// every interface that begins with what is before it.
type InterfaceMatch struct {
	Name string // empty: any
	Not  bool
}

// PortRange is an inclusive range of ports; the zero value matches any.
type PortRange struct{ First, Last uint16 }

// Port is the range of one port.
func Port(p uint16) PortRange { return PortRange{p, p} }

// ConnState is a set of conntrack states.
type ConnState uint8

const (
	StateNew ConnState = 1 << iota
	StateEstablished
	StateRelated
	StateInvalid
	StateUntracked
	StateDNAT
	StateSNAT
)

// StateMatch matches a packet whose connection is in one of States.
type StateMatch struct {
	States ConnState // 0: any
	Not    bool
}

// MarkMatch matches a packet whose mark, masked, is Value.
type MarkMatch struct {
	Value, Mask uint32 // Mask 0: any
	Not         bool
}

// Probability is a probability in the kernel's own unit, 1/2^31
// (xt_statistic). 0 means no statistic match.
type Probability uint32

const certain = 1 << 31

// Share is the probability m/n, rounded as iptables rounds it. m must be less
// than n: with one choice there is nothing to match.
func Share(m, n int) Probability {
	return Probability(math.Round(certain * float64(m) / float64(n)))
}

// Float returns the probability as a number between 0 and 1.
func (p Probability) Float() float64 { return float64(p) / certain }

// Recent matches and updates a list of recently seen source addresses (xt_recent).
type Recent struct {
	Op      RecentOp
	List    string
	Seconds uint32 // for RecentCheck: how recently; 0: ever
	Reap    bool   // for RecentCheck: drop entries that are older than Seconds
}

// RecentOp is what a Recent match does.
type RecentOp uint8

const (
	RecentNone  RecentOp = iota
	RecentSet            // put the source on the list; always matches
	RecentCheck          // match if the source is on the list
)

// Target is what happens to a packet that matched.
type Target struct {
	Name string // built-in target or chain; empty: count only, go on
	Goto bool   // -g instead of -j

	ToDestination netip.AddrPort // DNAT
}

// MarkUpdate is MARK's --set-xmark: clear the bits of Mask, then xor Value.
type MarkUpdate struct{ Value, Mask uint32 }

// The built-in targets this package writes or understands.
const (
	Accept     = "ACCEPT"
	Drop       = "DROP"
	Return     = "RETURN"
	Reject     = "REJECT"
	DNAT       = "DNAT"
	Masquerade = "MASQUERADE"
	MarkTarget = "MARK"
)

func builtinTarget(name string) bool {
	switch name {
	case "", Accept, Drop, Return, Reject, DNAT, Masquerade, MarkTarget:
		return true
	}
	return false
}

// Jump returns the chain that the rule jumps or goes to, or "" if it ends in a
// built-in target or in none.
func (r *Rule) Jump() string {
	if builtinTarget(r.Target.Name) {
		return ""
	}
	return r.Target.Name
}

// to returns the rule with a jump to the named chain or built-in target.
func (r Rule) to(name string) Rule {
	r.Target = Target{Name: name}
	return r
}
