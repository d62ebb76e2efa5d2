package rules

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// RenderTransaction returns a transaction as input for iptables-restore
// --noflush: the chains it writes or deletes, emptied; its jumps; the chains'
// rules; the deletions.
func RenderTransaction(f Family, tx *Transaction) []byte {
	return appendTransaction(nil, f, tx)
}

// RenderPlan returns a whole plan as text that can be read by people and piped
// into iptables-restore --noflush.
func RenderPlan(p *Plan) []byte {
	var buf []byte
	for i := range p.Transactions {
		buf = appendTransaction(buf, p.Family, &p.Transactions[i])
	}
	for _, t := range Tables() {
		if jumps := jumpsOf(t, p.Jumps); len(jumps) > 0 {
			buf = appendTransaction(buf, p.Family, &Transaction{Table: t, Jumps: jumps})
		}
	}
	return buf
}

func appendTransaction(b []byte, f Family, tx *Transaction) []byte {
	b = append(b, '*')
	b = append(b, tx.Table...)
	b = append(b, '\n')
	for _, c := range tx.Write {
		b = appendDeclaration(b, c.Name)
	}
	for _, name := range tx.Delete {
		b = appendDeclaration(b, name)
	}
	for _, j := range tx.Jumps {
		b = append(append(b, "-I "...), j.Chain...)
		b = append(appendJump(b, f, &j.Rule), '\n')
	}
	for _, c := range tx.Write {
		for i := range c.Rules {
			b = append(append(b, "-A "...), c.Name...)
			b = append(appendSpec(b, f, &c.Rules[i]), '\n')
		}
	}
	for _, name := range tx.Delete {
		b = append(append(append(b, "-X "...), name...), '\n')
	}
	return append(b, "COMMIT\n"...)
}

func appendDeclaration(b []byte, chain string) []byte {
	b = append(append(b, ':'), chain...)
	return append(b, " - [0:0]\n"...)
}

// Args returns the specification of a jump from a built-in chain as arguments for
// an iptables command, without the command and the chain.
func (r *Rule) Args(f Family) []string {
	args, _ := tokenize(string(appendJump(nil, f, r)))
	return args
}

// Spellings returns all ways to give such a jump as arguments, Args first: iptables
// finds a rule only if its matches have the order in which it was made.
func (r *Rule) Spellings(f Family) [][]string {
	args := r.Args(f)
	if other, _ := tokenize(string(appendSpec(nil, f, r))); !slices.Equal(other, args) {
		return [][]string{args, other}
	}
	return [][]string{args}
}

// appendJump appends the specification of a jump from a built-in chain, with the
// connection states before the comment, as kube-proxy writes it: so it finds ours in
// place, and can delete them.
func appendJump(b []byte, f Family, r *Rule) []byte {
	x := r.Rare()
	b = appendState(b, x.State)
	x.State = StateMatch{}
	rest := r.With(x)
	return appendSpec(b, f, &rest)
}

// String returns the specification as iptables-save would print it. It is
// meant for messages; IPv6 shows only where the family makes a difference.
func (r Rule) String() string {
	f := IPv4
	for _, p := range []netip.Prefix{r.Src.Prefix, r.Dst.Prefix, netip.PrefixFrom(r.Target.ToDestination.Addr(), 0)} {
		if p.Addr().Is6() {
			f = IPv6
		}
	}
	return strings.TrimPrefix(string(appendSpec(nil, f, &r)), " ")
}

// appendSpec appends a rule's matches and target, each word behind a space, in
// the order in which iptables-save prints them.
func appendSpec(b []byte, f Family, r *Rule) []byte {
	x := r.Rare()
	if x.Unparsed != "" {
		return append(append(b, ' '), x.Unparsed...)
	}
	b = appendHeader(b, r, &x)
	if r.Comment != "" {
		b = appendQuoted(append(b, " -m comment --comment "...), r.Comment)
	}
	b = appendMatches(b, r, &x)
	if r.DstPort != (PortRange{}) {
		b = append(append(append(b, " -m "...), r.Protocol...), " --dport "...)
		b = strconv.AppendUint(b, uint64(r.DstPort.First), 10)
		if r.DstPort.Last != r.DstPort.First {
			b = strconv.AppendUint(append(b, ':'), uint64(r.DstPort.Last), 10)
		}
	}
	if x.NFAcct != "" {
		b = appendWord(append(b, " -m nfacct --nfacct-name "...), x.NFAcct)
	}
	return appendTarget(b, f, &r.Target, &x)
}

func appendHeader(b []byte, r *Rule, x *Rare) []byte {
	b = appendAddr(b, " -s ", r.Src)
	b = appendAddr(b, " -d ", r.Dst)
	if x.In.Name != "" {
		b = appendWord(append(appendNot(b, x.In.Not), " -i "...), x.In.Name)
	}
	if r.Protocol != "" {
		b = append(append(b, " -p "...), r.Protocol...)
	}
	return b
}

func appendNot(b []byte, not bool) []byte {
	if not {
		return append(b, " !"...)
	}
	return b
}

func appendAddr(b []byte, flag string, m AddrMatch) []byte {
	if !m.Prefix.IsValid() {
		return b
	}
	return m.Prefix.AppendTo(append(appendNot(b, m.Not), flag...))
}

func appendMatches(b []byte, r *Rule, x *Rare) []byte {
	if r.SrcLocal || r.DstLocal {
		b = append(b, " -m addrtype"...)
	}
	if r.SrcLocal {
		b = append(b, " --src-type LOCAL"...)
	}
	if r.DstLocal {
		b = append(b, " --dst-type LOCAL"...)
	}
	b = appendState(b, x.State)
	if x.Mark.Mask != 0 {
		b = append(appendNot(append(b, " -m mark"...), x.Mark.Not), " --mark "...)
		b = appendHex(b, x.Mark.Value)
		if x.Mark.Mask != math.MaxUint32 {
			b = appendHex(append(b, '/'), x.Mark.Mask)
		}
	}
	if r.Statistic != 0 {
		b = append(b, " -m statistic --mode random --probability "...)
		b = appendProbability(b, r.Statistic)
	}
	return appendRecent(b, x.Recent)
}

func appendState(b []byte, m StateMatch) []byte {
	if m.States == 0 {
		return b
	}
	b = append(appendNot(append(b, " -m conntrack"...), m.Not), " --ctstate "...)
	return append(b, m.States.String()...)
}

// appendProbability writes kube-proxy's ten digits of 1/n where they read back as
// the value, and ten digits of the value itself elsewhere, which always do: its
// unit is larger than the last digit.
func appendProbability(b []byte, p Probability) []byte {
	oneOf := strconv.AppendFloat(nil, 1/math.Round(1/p.Float()), 'f', 10, 64)
	if x, err := strconv.ParseFloat(string(oneOf), 64); err == nil && Probability(math.Round(x*certain)) == p {
		return append(b, oneOf...)
	}
	return strconv.AppendFloat(b, p.Float(), 'f', 10, 64)
}

func appendRecent(b []byte, r Recent) []byte {
	switch r.Op {
	case RecentNone:
		return b
	case RecentSet:
		b = append(b, " -m recent --set"...)
	case RecentCheck:
		b = append(b, " -m recent --rcheck"...)
		if r.Seconds != 0 {
			b = strconv.AppendUint(append(b, " --seconds "...), uint64(r.Seconds), 10)
		}
		if r.Reap {
			b = append(b, " --reap"...)
		}
	}
	b = appendWord(append(b, " --name "...), r.List)
	return append(b, " --rsource"...)
}

func appendTarget(b []byte, f Family, t *Target, x *Rare) []byte {
	if t.Name == "" {
		return b
	}
	if t.Goto {
		b = append(b, " -g "...)
	} else {
		b = append(b, " -j "...)
	}
	b = append(b, t.Name...)
	switch t.Name {
	case DNAT:
		b = t.ToDestination.AppendTo(append(b, " --to-destination "...))
	case MarkTarget:
		b = appendHex(append(b, " --set-xmark "...), x.SetMark.Value)
		b = appendHex(append(b, '/'), x.SetMark.Mask)
	case Masquerade:
		if x.RandomFully {
			b = append(b, " --random-fully"...)
		}
	case Reject:
		b = append(b, " --reject-with "...)
		if x.RejectWith != "" {
			b = appendWord(b, x.RejectWith)
		} else {
			b = append(b, defaultReject(f)...)
		}
	}
	return b
}

func defaultReject(f Family) string {
	if f == IPv6 {
		return "icmp6-port-unreachable"
	}
	return "icmp-port-unreachable"
}

func appendHex(b []byte, v uint32) []byte {
	return strconv.AppendUint(append(b, "0x"...), uint64(v), 16)
}

// appendWord appends a name, in quotes if it is none that the kernel's tools give.
func appendWord(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '"' || c == '\\' || c == 0x7f {
			return appendQuoted(b, s)
		}
	}
	return append(b, s...)
}

// appendQuoted appends s in double quotes so that iptables-restore reads it back
// as one word. A control character, which no valid name holds, becomes a space:
// nothing that comes from outside may end a line.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

var stateNames = []struct {
	state ConnState
	name  string
}{
	{StateInvalid, "INVALID"},
	{StateNew, "NEW"},
	{StateRelated, "RELATED"},
	{StateEstablished, "ESTABLISHED"},
	{StateUntracked, "UNTRACKED"},
	{StateSNAT, "SNAT"},
	{StateDNAT, "DNAT"},
}

// String lists the states as --ctstate takes them, in iptables' own order.
func (s ConnState) String() string {
	var names []string
	for _, n := range stateNames {
		if s&n.state != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}
