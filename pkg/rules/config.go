package rules

import "net/netip"

// Config is the part of the configuration that shapes the rules of one family.
type Config struct {
	Family Family

	// PodTraffic tells traffic of this cluster's pods from all other. With none,
	// only MasqueradeAll rewrites the source of traffic to a cluster IP.
	PodTraffic PodTraffic

	MasqueradeAll  bool   // rewrite the source of all traffic to cluster IPs
	MasqueradeMark uint32 // the one mark bit that asks for a rewritten source, such as 0x4000
	DropInvalid    bool   // drop forwarded packets that conntrack calls INVALID (kubernetes#74839)
}

// PodTraffic is a match that holds for packets that come from pods; at most one
// of its fields is set. The zero value knows no pods.
type PodTraffic struct {
	CIDR      netip.Prefix // source address
	Interface string       // incoming interface; may end in +
}

// known reports whether pods can be told from others at all.
func (p PodTraffic) known() bool { return p != PodTraffic{} }

// match adds the condition "comes from a pod", or its opposite, to a rule.
func (p PodTraffic) match(r Rule, fromPod bool) Rule {
	switch {
	case p.CIDR.IsValid():
		r.Src = AddrMatch{p.CIDR, !fromPod}
	case p.Interface != "":
		r.In = InterfaceMatch{p.Interface, !fromPod}
	}
	return r
}
