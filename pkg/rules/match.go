package rules

import (
	"net/netip"
	"slices"
)

// truth says whether a packet matches. Perhaps is the answer where that depends on
// what is not known of the packet, or on something that is not understood.
type truth int8

const (
	no truth = iota
	perhaps
	yes
)

func is(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (t truth) not(not bool) truth {
	if not {
		return yes - t
	}
	return t
}

// matches says whether a packet in a state meets all conditions of a rule. One that
// it certainly does not meet decides, whatever the others are.
func (w *walker) matches(r *Rule, x *Rare, s *state) truth {
	if !(matchAddr(r.Src, w.packet.Src.Addr()) &&
		matchAddr(r.Dst, s.dst.Addr()) &&
		(r.Protocol == "" || r.Protocol == w.packet.Protocol) &&
		(r.DstPort == PortRange{} || r.DstPort.has(s.dst.Port())) &&
		(!r.SrcLocal || w.host.local(w.packet.Src.Addr())) &&
		(!r.DstLocal || w.host.local(s.dst.Addr())) &&
		w.matchState(x.State, s) &&
		(x.Recent.Op != RecentCheck || slices.Contains(w.packet.Seen, x.Recent.List))) {
		return no
	}
	return min(matchMark(x.Mark, s), w.matchIncoming(x.In, s))
}

func matchAddr(m AddrMatch, a netip.Addr) bool {
	return !m.Prefix.IsValid() || m.Prefix.Contains(a) != m.Not
}

func (r PortRange) has(port uint16) bool { return r.First <= port && port <= r.Last }

func matchMark(m MarkMatch, s *state) truth {
	switch {
	case m.Mask == 0:
		return yes
	case s.anyMark:
		return perhaps
	}
	return is((s.mark&m.Mask == m.Value) != m.Not)
}

// matchIncoming: a packet of the node has no incoming interface but on its way back
// to the node.
func (w *walker) matchIncoming(m InterfaceMatch, s *state) truth {
	name := w.packet.In
	if s.looped {
		name = loopbackInterface
	}
	if name == "" && !w.packet.FromNode {
		return m.unknown()
	}
	return m.of(name)
}

const loopbackInterface = "lo"

// matchOutgoing: where a packet leaves is known of those for the node itself.
func (w *walker) matchOutgoing(m InterfaceMatch, s *state) truth {
	name := ""
	switch dst := s.dst.Addr(); {
	case w.host.local(dst):
		name = loopbackInterface
	case w.host.Out != nil:
		name = w.host.Out(dst)
	}
	if name == "" {
		return m.unknown()
	}
	return m.of(name)
}

func (m InterfaceMatch) of(name string) truth {
	if m.Name == "" {
		return yes
	}
	hit := m.Name == name
	if prefix, any := cutPlus(m.Name); any {
		hit = len(name) >= len(prefix) && name[:len(prefix)] == prefix
	}
	return is(hit != m.Not)
}

// unknown is whether an interface of which nothing is known matches.
func (m InterfaceMatch) unknown() truth {
	if m.Name == "" {
		return yes
	}
	return perhaps
}

func cutPlus(name string) (string, bool) {
	if n := len(name); n > 0 && name[n-1] == '+' {
		return name[:n-1], true
	}
	return name, false
}

// matchState: a connection's first packet is NEW, and DNAT once rewritten.
func (w *walker) matchState(m StateMatch, s *state) bool {
	if m.States == 0 {
		return true
	}
	return (m.States&w.connState(s) != 0) != m.Not
}

func (w *walker) connState(s *state) ConnState {
	has := StateNew
	switch {
	case s.untracked:
		return StateUntracked
	case w.packet.Tracked != nil:
		has = StateEstablished
	}
	if s.dnat {
		has |= StateDNAT
	}
	if s.masqueraded {
		has |= StateSNAT
	}
	return has
}
