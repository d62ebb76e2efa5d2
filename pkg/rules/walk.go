package rules

import (
	"fmt"
	"net/netip"
	"slices"
)

// Packet is the first packet of a connection, as it enters the node's netfilter
// hooks.
type Packet struct {
	FromNode bool   // made on the node (OUTPUT) rather than received (PREROUTING)
	In       string // interface it came in by; empty if FromNode
	Protocol Protocol
	Src, Dst netip.AddrPort
	Seen     []string // lists of recent that hold the source
}

// Host is what a packet's way depends on besides the rules.
type Host struct {
	Addresses []netip.Addr // the node's own; loopback is always local
}

func (h *Host) local(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(h.Addresses, a)
}

// Fate is one way a packet can end, and how likely that is.
type Fate struct {
	Verdict     string         // ACCEPT, DROP or REJECT
	Dst         netip.AddrPort // where it goes, rewritten or not
	Masqueraded bool           // whether its source is rewritten
	Probability float64        // of all packets like it; the fates of a packet add up to 1
}

// Walk sends a packet through the rules as the kernel would and returns every
// fate it can meet, most likely first and then by destination. The tables are
// those of ParseSave; a missing table or built-in chain accepts. A rule that is
// not understood, or a jump to nowhere, is an error if the packet gets that far.
func Walk(tables []Table, host Host, p Packet) ([]Fate, error) {
	w := walker{tables: tables, host: &host, packet: &p}
	first := "PREROUTING"
	if p.FromNode {
		first = "OUTPUT"
	}
	states, err := w.hook([]state{{dst: p.Dst, share: 1}}, hook{Nat, first})
	if err != nil {
		return nil, err
	}
	var fates []Fate
	for _, s := range states {

		ends, err := w.hooks([]state{s}, w.way(s.dst.Addr()))
		if err != nil {
			return nil, err
		}
		for _, e := range ends {
			fates = append(fates, Fate{verdictName(e.verdict), e.dst, e.masqueraded, e.share})
		}
	}
	return merge(fates), nil
}

// way lists the hooks behind the routing decision. POSTROUTING nat does not see
// packets for the node itself, except those that it made.
func (w *walker) way(dst netip.Addr) []hook {
	switch local := w.host.local(dst); {
	case w.packet.FromNode && local:
		return []hook{{Filter, "OUTPUT"}, {Nat, "POSTROUTING"}, {Filter, "INPUT"}}
	case w.packet.FromNode:
		return []hook{{Filter, "OUTPUT"}, {Nat, "POSTROUTING"}}
	case local:
		return []hook{{Filter, "INPUT"}, {Nat, "INPUT"}}
	}
	return []hook{{Filter, "FORWARD"}, {Nat, "POSTROUTING"}}
}

type hook struct {
	table TableName
	chain string
}

// state is a packet under way: one branch of all that can happen to it.
type state struct {
	dst         netip.AddrPort
	mark        uint32
	dnat        bool
	masqueraded bool
	share       float64 // probability of this branch
	verdict     string  // empty: still under way in its chain
}

func verdictName(v string) string {
	if v == "" {
		return Accept
	}
	return v
}

// stopped: the packet goes no further through any hook.
func (s *state) stopped() bool { return s.verdict == Drop || s.verdict == Reject }

type walker struct {
	tables []Table
	host   *Host
	packet *Packet
}

func (w *walker) hooks(states []state, hooks []hook) ([]state, error) {
	var err error
	for _, h := range hooks {
		if states, err = w.hook(states, h); err != nil {
			return nil, err
		}
	}
	return states, nil
}

// hook sends each branch that goes on through a built-in chain.
func (w *walker) hook(states []state, h hook) ([]state, error) {
	c := w.chain(h.table, h.chain)
	var out []state
	for _, s := range states {
		if s.stopped() || c == nil {
			out = append(out, s)
			continue
		}
		s.verdict = ""
		ends, err := w.run(h.table, c, s, 0)
		if err != nil {
			return nil, err
		}
		for _, e := range ends {
			if e.verdict == Return || e.verdict == "" {
				e.verdict = c.Policy
			}
			out = append(out, e)
		}
	}
	return out, nil
}

func (w *walker) chain(t TableName, name string) *Chain {
	for i := range w.tables {
		if w.tables[i].Name == t {
			return w.tables[i].Chain(name)
		}
	}
	return nil
}

// maxDepth is more than any kernel allows and ends loops,
// which the kernel refuses to load.
const maxDepth = 64

// run returns how s can leave a chain: with a verdict, or with none at its end.
func (w *walker) run(t TableName, c *Chain, s state, depth int) ([]state, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("table %s chain %s: jumps nest more than %d deep", t, c.Name, maxDepth)
	}
	var done []state
	under := []state{s}
	for i := range c.Rules {
		r := &c.Rules[i]
		var next []state
		for _, s := range under {
			out, err := w.rule(t, r, s, depth)
			if err != nil {
				return nil, fmt.Errorf("table %s chain %s rule %d: %w", t, c.Name, i+1, err)
			}
			for _, o := range out {
				if o.verdict == "" {
					next = append(next, o)
				} else {
					done = append(done, o)
				}
			}
		}
		under = next
	}
	done = append(done, under...)
	for i := range done {
		if done[i].verdict == Return {
			done[i].verdict = ""
		}
	}
	return done, nil
}

// rule returns what becomes of s at one rule; a branch without verdict goes on
// to the next one.
func (w *walker) rule(t TableName, r *Rule, s state, depth int) ([]state, error) {
	x := r.Rare()
	if x.Unparsed != "" {
		return nil, fmt.Errorf("not understood: %s", x.Unparsed)
	}
	if !w.matches(r, &x, &s) {
		return []state{s}, nil
	}
	if r.Statistic == 0 || r.Statistic == certain {
		return w.target(t, r, s, depth)
	}
	hit, miss := s, s
	hit.share *= r.Statistic.Float()
	miss.share -= hit.share
	out, err := w.target(t, r, hit, depth)
	return append(out, miss), err
}

func (w *walker) target(t TableName, r *Rule, s state, depth int) ([]state, error) {
	switch name := r.Target.Name; name {
	case "":
	case Accept, Drop, Return, Reject:
		s.verdict = name
	case DNAT:
		s.dst, s.dnat, s.verdict = r.Target.ToDestination, true, Accept
	case Masquerade:
		s.masqueraded, s.verdict = true, Accept
	case MarkTarget:
		set := r.Rare().SetMark
		s.mark = s.mark&^set.Mask ^ set.Value
	default:
		c := w.chain(t, name)
		if c == nil {
			return nil, fmt.Errorf("leads to %s, which is neither a chain nor a target known here", name)
		}
		ends, err := w.run(t, c, s, depth+1)
		if r.Target.Goto {
			for i := range ends {
				if ends[i].verdict == "" {
					ends[i].verdict = Return
				}
			}
		}
		return ends, err
	}
	return []state{s}, nil
}

func (w *walker) matches(r *Rule, x *Rare, s *state) bool {
	return matchAddr(r.Src, w.packet.Src.Addr()) &&
		matchAddr(r.Dst, s.dst.Addr()) &&
		matchInterface(x.In, w.packet.In) &&
		(r.Protocol == "" || r.Protocol == w.packet.Protocol) &&
		(r.DstPort == PortRange{} || r.DstPort.First <= s.dst.Port() && s.dst.Port() <= r.DstPort.Last) &&
		(!r.SrcLocal || w.host.local(w.packet.Src.Addr())) &&
		(!r.DstLocal || w.host.local(s.dst.Addr())) &&
		matchState(x.State, s) &&
		(x.Mark.Mask == 0 || (s.mark&x.Mark.Mask == x.Mark.Value) != x.Mark.Not) &&
		(x.Recent.Op != RecentCheck || slices.Contains(w.packet.Seen, x.Recent.List))
}

func matchAddr(m AddrMatch, a netip.Addr) bool {
	return !m.Prefix.IsValid() || m.Prefix.Contains(a) != m.Not
}

func matchInterface(m InterfaceMatch, name string) bool {
	if m.Name == "" {
		return true
	}
	hit := m.Name == name
	if prefix, any := cutPlus(m.Name); any {
		hit = len(name) >= len(prefix) && name[:len(prefix)] == prefix
	}
	return hit != m.Not
}

func cutPlus(name string) (string, bool) {
	if n := len(name); n > 0 && name[n-1] == '+' {
		return name[:n-1], true
	}
	return name, false
}

// matchState: a connection's first packet is NEW, and DNAT once rewritten.
func matchState(m StateMatch, s *state) bool {
	if m.States == 0 {
		return true
	}
	is := StateNew
	if s.dnat {
		is |= StateDNAT
	}
	return (m.States&is != 0) != m.Not
}

// merge adds up equal fates and sorts them.
func merge(fates []Fate) []Fate {
	sum := map[Fate]float64{}
	for _, f := range fates {
		p := f.Probability
		f.Probability = 0
		sum[f] += p
	}
	out := make([]Fate, 0, len(sum))
	for f, p := range sum {
		f.Probability = p
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b Fate) int {
		switch {
		case a.Probability > b.Probability+1e-9:
			return -1
		case b.Probability > a.Probability+1e-9:
			return 1
		}
		return a.Dst.Compare(b.Dst)
	})
	return out
}
