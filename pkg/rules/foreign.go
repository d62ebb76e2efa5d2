package rules

import (
	"math"
	"slices"
	"strings"
)

const sourceNAT = "SNAT"

// effect is what a target of others does to a packet's way, as iptables-extensions(8)
// has it.
type effect int

const (
	unknownEffect effect = iota
	passes               // the packet goes on as it is, as far as rules look at it
	marks                // its mark may be another
	untracks             // conntrack and nat leave it alone
)

func effectOf(target, spec string) effect {
	switch target {
	case "LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "CHECKSUM", "TCPMSS", "TCPOPTSTRIP", "TOS", "DSCP", "CLASSIFY", "SET",
		"SECMARK", "CONNSECMARK", "TTL", "HL", "ECN", "IDLETIMER", "LED", "RATEEST", "TEE":
		return passes
	case "HMARK":
		return marks
	case "CONNMARK":
		if strings.Contains(spec, "--restore-mark") {
			return marks
		}
		return passes
	case "NOTRACK":
		return untracks
	case "CT":
		if strings.Contains(spec, "--notrack") {
			return untracks
		}
		return passes
	}
	return unknownEffect
}

// foreignRule is what is understood of a rule that a Rule cannot hold. Its conditions
// hold all together, so one that is understood and not met decides, whatever the
// others mean.
type foreignRule struct {
	rule Rule // with the target
	rare Rare
	sure bool // that there are no other conditions than these
	more []condition
}

// condition is one that a Rule has no room for.
type condition func(*walker, *state) truth

// matchesForeign says whether a packet meets a rule of others.
func (w *walker) matchesForeign(f *foreignRule, s *state) truth {
	hit := w.matches(&f.rule, &f.rare, s)
	for _, c := range f.more {
		hit = min(hit, c(w, s))
	}
	if !f.sure || f.rule.Statistic != 0 {
		hit = min(hit, perhaps)
	}
	return hit
}

// understand reads the conditions of a specification up to the first one that is not
// understood, and its target as far as that is.
func understand(spec string, f Family) *foreignRule {
	words, err := tokenize(spec)
	if err != nil {
		return &foreignRule{}
	}
	r := foreignReader{specParser: specParser{family: f, words: words}}
	known := r.specParser
	for len(r.words) > 0 {
		before := len(r.out.more)
		r.option()
		if r.unknown {
			r.out.more = r.out.more[:before]
			break
		}
		known = r.specParser
	}
	out := &r.out
	out.rule, out.rare = known.rule, known.rare
	if !r.unknown {
		out.sure = known.complete()
		return out
	}
	if out.sure = known.rule.Target.Name != ""; !out.sure { // conditions stand before it
		out.rule.Target, out.rare.SetMark = targetIn(known.words, f)
	}
	return out
}

// targetIn reads the target behind conditions that are not understood.
func targetIn(words []string, f Family) (Target, MarkUpdate) {
	i := slices.IndexFunc(words, func(w string) bool { return w == "-j" || w == "-g" })
	if i < 0 {
		return Target{}, MarkUpdate{}
	}
	p := specParser{family: f, words: words[i:]}
	known := p
	for len(p.words) > 0 && !p.unknown {
		if p.option(); !p.unknown {
			known = p
		}
	}
	return known.rule.Target, known.rare.SetMark
}

// foreignReader understands options that a Rule has no room for besides those of a
// specParser.
type foreignReader struct {
	specParser
	out foreignRule
}

func (r *foreignReader) option() {
	if len(r.words) == 0 {
		return
	}
	opt, not, n := r.words[0], false, 1
	if opt == "!" && len(r.words) > 1 {
		opt, not, n = r.words[1], true, 2
	}
	if len(r.words) <= n {
		r.specParser.option()
		return
	}
	value := r.words[n]
	read := true
	switch opt {
	case "-p":
		if read = not || !slices.Contains([]Protocol{TCP, UDP, SCTP}, Protocol(value)); read {
			r.protocolCondition(value, not)
		}
	case "-o":
		r.add(func(w *walker, s *state) truth { return w.matchOutgoing(InterfaceMatch{value, not}, s) })
	case "--sport", "--sports":
		r.portsCondition(value, not, func(w *walker, _ *state, in []PortRange) truth { return w.fromPort(in) })
	case "--dports":
		r.portsCondition(value, not, func(_ *walker, s *state, in []PortRange) truth { return is(anyHas(in, s.dst.Port())) })
	case "--tcp-flags":
		r.flagsCondition(not)
		n++
	case "--state":
		r.words = append([]string{"--ctstate"}, r.words[n:]...)
		if not {
			r.words = append([]string{"!"}, r.words...)
		}
		read = false
	case "-m":
		if value != "multiport" && value != "state" {
			read = false
		}
	default:
		read = false
	}
	if !read {
		r.specParser.option()
		return
	}
	r.words = r.words[min(len(r.words), n+1):]
}

func (r *foreignReader) add(c condition) { r.out.more = append(r.out.more, c) }

func (r *foreignReader) protocolCondition(name string, not bool) {
	if name == "all" || name == "0" {
		return
	}
	r.add(func(w *walker, _ *state) truth { return is((Protocol(name) == w.packet.Protocol) != not) })
}

func (r *foreignReader) portsCondition(list string, not bool, within func(*walker, *state, []PortRange) truth) {
	p := specParser{words: strings.Split(list, ",")}
	var ranges []PortRange
	for len(p.words) > 0 {
		ranges = append(ranges, p.ports())
	}
	r.unknown = r.unknown || p.unknown
	r.add(func(w *walker, s *state) truth { return within(w, s, ranges).not(not) })
}

func anyHas(ranges []PortRange, port uint16) bool {
	return slices.ContainsFunc(ranges, func(r PortRange) bool { return r.has(port) })
}

// fromPort says whether a packet comes from one of those ports. A client that nothing
// is known of has one of those that do not belong to services (RFC 6335).
func (w *walker) fromPort(in []PortRange) truth {
	const first, last = 1024, math.MaxUint16
	if port := w.packet.Src.Port(); port != 0 {
		return is(anyHas(in, port))
	}
	switch {
	case slices.ContainsFunc(in, func(r PortRange) bool { return r.First <= first && r.Last == last }):
		return yes
	case slices.ContainsFunc(in, func(r PortRange) bool { return r.Last >= first }):
		return perhaps
	}
	return no
}

// flagsCondition: the first packet of a connection over TCP has SYN and no other of
// the flags; which one of a known connection has is not said.
func (r *foreignReader) flagsCondition(not bool) {
	at := slices.Index(r.words, "--tcp-flags")
	if len(r.words) <= at+2 {
		r.unknown = true
		return
	}
	mask, set := strings.Split(r.words[at+1], ","), r.words[at+2]
	want := "NONE"
	if slices.Contains(mask, "SYN") || slices.Contains(mask, "ALL") {
		want = "SYN"
	}
	r.add(func(w *walker, _ *state) truth {
		if w.packet.Tracked != nil {
			return perhaps
		}
		return is(set == want).not(not)
	})
}
