package rules

import (
	"net/netip"
	"slices"
)

// sieve finds what of a ruleset the packets to one destination can meet: a few
// rules, however many there are. Others' rules are no part of it.
type sieve struct {
	host    *Host
	tables  map[TableName]*Table
	builtIn map[TableName][]*Chain
	indexes map[*Chain]*destinationIndex
}

// destination is what a packet is for.
type destination struct {
	protocol Protocol
	addr     netip.AddrPort
}

func newSieve(r *Ruleset, host *Host) *sieve {
	s := &sieve{host, map[TableName]*Table{}, map[TableName][]*Chain{}, map[*Chain]*destinationIndex{}}
	for _, t := range Tables() {
		s.tables[t] = r.Table(t)
		for _, name := range []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"} {
			if BuiltIn(t, name) {
				s.builtIn[t] = append(s.builtIn[t], &Chain{Name: name, Policy: Accept, Rules: liveJumps(r.Jumps, t, name)})
			}
		}
	}
	return s
}

// liveJumps returns the jumps of a built-in chain in the order in which packets meet
// them: by position, or those wanted, which have none, from the last one on.
func liveJumps(jumps []Jump, t TableName, chain string) []Rule {
	var in []Jump
	for _, j := range jumps {
		if j.Table == t && j.Chain == chain && !j.Dead {
			in = append(in, j)
		}
	}
	slices.Reverse(in)
	slices.SortStableFunc(in, func(a, b Jump) int { return a.Position - b.Position })
	return rulesOfJumps(in)
}

// to returns tables with those chains and rules alone that packets to a destination
// can meet, as far as that depends on protocol and destination.
func (s *sieve) to(d destination) []Table {
	nat := s.pass(Nat, d.protocol, []netip.AddrPort{d.addr}, "PREROUTING", "OUTPUT")
	then := append([]netip.AddrPort{d.addr}, nat.rewrites...)
	post := s.pass(Nat, d.protocol, then, "INPUT", "POSTROUTING")
	for name, c := range post.chains {
		nat.chains[name] = c // as it holds what the packet meets under any of its destinations
	}
	filter := s.pass(Filter, d.protocol, then, "INPUT", "FORWARD", "OUTPUT")
	return []Table{filter.table(Filter), nat.table(Nat)}
}

// passage is what packets of a protocol meet that have one of some destinations.
type passage struct {
	*sieve
	in       TableName
	protocol Protocol
	to       []netip.AddrPort
	chains   map[string]*Chain
	rewrites []netip.AddrPort
}

func (s *sieve) pass(t TableName, p Protocol, to []netip.AddrPort, hooks ...string) *passage {
	pass := &passage{s, t, p, to, map[string]*Chain{}, nil}
	for _, c := range s.builtIn[t] {
		if slices.Contains(hooks, c.Name) {
			pass.enter(c)
		}
	}
	return pass
}

func (p *passage) enter(c *Chain) {
	met := p.met(c)
	p.chains[c.Name] = met
	for i := range met.Rules {
		r := &met.Rules[i]
		if r.Target.Name == DNAT {
			p.rewrites = append(p.rewrites, r.Target.ToDestination)
		}
		to := r.Jump()
		if to == "" || p.chains[to] != nil {
			continue
		}
		if next := p.tables[p.in].Chain(to); next != nil {
			p.enter(next)
		}
	}
}

// met returns the chain with the rules alone that can match.
func (p *passage) met(c *Chain) *Chain {
	out := &Chain{Name: c.Name, Policy: c.Policy}
	if len(c.Rules) > leafSize {
		for _, i := range p.index(c).candidates(p.to) {
			if p.canMatch(&c.Rules[i]) {
				out.Rules = append(out.Rules, c.Rules[i])
			}
		}
		return out
	}
	for i := range c.Rules {
		if p.canMatch(&c.Rules[i]) {
			out.Rules = append(out.Rules, c.Rules[i])
		}
	}
	if len(out.Rules) == len(c.Rules) {
		return c
	}
	return out
}

func (p *passage) canMatch(r *Rule) bool {
	if r.Protocol != "" && r.Protocol != p.protocol {
		return false
	}
	if !r.Dst.Prefix.IsValid() && r.DstPort == (PortRange{}) && !r.DstLocal {
		return true
	}
	return slices.ContainsFunc(p.to, func(to netip.AddrPort) bool {
		return matchAddr(r.Dst, to.Addr()) && (!r.DstLocal || p.host.local(to.Addr())) &&
			(r.DstPort == (PortRange{}) || r.DstPort.First <= to.Port() && to.Port() <= r.DstPort.Last)
	})
}

func (p *passage) table(name TableName) Table {
	t := Table{Name: name}
	for _, c := range p.chains {
		t.Chains = append(t.Chains, c)
	}
	t.sort()
	return t
}

// destinationIndex finds the rules of a long list by their one destination address.
type destinationIndex struct {
	single map[netip.Addr][]int
	rest   []int // those that have none, or several
}

func (s *sieve) index(c *Chain) *destinationIndex {
	if x := s.indexes[c]; x != nil {
		return x
	}
	x := &destinationIndex{single: map[netip.Addr][]int{}}
	for i := range c.Rules {
		if dst := c.Rules[i].Dst; dst.Prefix.IsSingleIP() && !dst.Not {
			x.single[dst.Prefix.Addr()] = append(x.single[dst.Prefix.Addr()], i)
		} else {
			x.rest = append(x.rest, i)
		}
	}
	s.indexes[c] = x
	return x
}

// candidates returns the places of rules that may be for one of the addresses, in order.
func (x *destinationIndex) candidates(to []netip.AddrPort) []int {
	out := slices.Clone(x.rest)
	for _, a := range to {
		out = append(out, x.single[a.Addr()]...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sameTables reports whether two lists of tables hold the same chains.
func sameTables(a, b []Table) bool {
	return slices.EqualFunc(a, b, func(a, b Table) bool {
		return a.Name == b.Name && slices.EqualFunc(a.Chains, b.Chains, func(a, b *Chain) bool {
			return a == b || a.Name == b.Name && a.Policy == b.Policy && slices.Equal(a.Rules, b.Rules)
		})
	})
}
