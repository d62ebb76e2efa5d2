package rules

import (
	"math"
	"net/netip"
)

// Rule is one iptables rule: a conjunction of matches, then what to do. The
// zero value of each field means "not there". Rules are compared with ==, so
// every field is in the form the kernel keeps it in, whatever text it came from.
type Rule struct {
	Src, Dst  AddrMatch
	In        InterfaceMatch
	Protocol  Protocol
	DstPort   PortRange
	Comment   string
	SrcLocal  bool // -m addrtype --src-type LOCAL
	DstLocal  bool // -m addrtype --dst-type LOCAL
	State     StateMatch
	Mark      MarkMatch
	Statistic Probability
	Recent    Recent
	NFAcct    string // -m nfacct: count the packet in this object, which must exist
	Target    Target

	// Unparsed is the whole specification of a rule that holds something this
	// package does not know; only Target.Name is filled in besides. Such a rule
	// belongs to somebody else and equals none of ours; it is rendered only where a
	// chain that holds it is written again.
	Unparsed string
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
	SetMark       MarkUpdate     // MARK
	RandomFully   bool           // MASQUERADE
	RejectWith    string         // REJECT; empty: port unreachable, the default
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
