package rules

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// tokenize splits a specification into words. Double quotes keep a word
// together; a backslash inside them takes the next character as it is.
func tokenize(spec string) ([]string, error) {
	words := make([]string, 0, 24) // enough for every rule of ours
	for i := 0; i < len(spec); {
		switch spec[i] {
		case ' ', '\t':
			i++
			continue
		case '"':
			word, n, err := unquote(spec[i:])
			if err != nil {
				return nil, err
			}
			words = append(words, word)
			i += n
			continue
		}
		end := strings.IndexAny(spec[i:], " \t")
		if end < 0 {
			end = len(spec) - i
		}
		words = append(words, spec[i:i+end])
		i += end
	}
	return words, nil
}

// unquote reads the quoted word at the start of s and returns its length there.
func unquote(s string) (word string, n int, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), i + 1, nil
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", 0, fmt.Errorf("quote without end")
}

// parseSpec reads one rule specification. What it does not know makes the rule
// unparsed; only broken quoting is an error.
func parseSpec(spec string, f Family) (Rule, error) {
	words, err := tokenize(spec)
	if err != nil {
		return Rule{}, err
	}
	p := specParser{family: f, words: words}
	for len(p.words) > 0 && !p.unknown {
		p.option()
	}
	if !p.unknown && p.complete() {
		return p.rule.With(p.rare), nil
	}
	return Rule{}.to(targetOf(words)).With(Rare{Unparsed: strings.Trim(spec, " ")}), nil
}

func targetOf(words []string) string {
	for i := 0; i+1 < len(words); i++ {
		if words[i] == "-j" || words[i] == "-g" {
			return words[i+1]
		}
	}
	return ""
}

// specParser reads a specification option by option. Anything that the Rule
// could not hold without loss sets unknown.
type specParser struct {
	family  Family
	words   []string
	rule    Rule
	rare    Rare
	seen    []string // a dozen at most
	unknown bool
}

// complete reports whether the options read make sense together.
func (p *specParser) complete() bool {
	r, x := &p.rule, &p.rare
	switch {
	case r.DstPort != (PortRange{}) && r.Protocol == "",
		(r.Target.Name == DNAT) != r.Target.ToDestination.IsValid(),
		(r.Target.Name == MarkTarget) != (x.SetMark != MarkUpdate{}),
		r.Target.Name != Reject && p.saw("--reject-with"),
		r.Target.Name != Masquerade && x.RandomFully,
		p.saw("--probability") != p.saw("--mode"),
		(x.Recent.Op == RecentNone) != (x.Recent.List == ""),
		x.Recent.Op != RecentCheck && (x.Recent.Seconds != 0 || x.Recent.Reap):
		return false
	}
	return true
}

func (p *specParser) saw(opt string) bool { return slices.Contains(p.seen, opt) }

func (p *specParser) next() string {
	if len(p.words) == 0 {
		p.unknown = true
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

func (p *specParser) option() {
	opt, not := p.next(), false
	if opt == "!" {
		opt, not = p.next(), true
	}
	if opt != "-m" && p.saw(opt) {
		p.unknown = true // said twice: the struct has room for one
		return
	}
	p.seen = append(p.seen, opt)
	if p.negatable(opt, not) {
		return
	}
	if not || !(p.match(opt) || p.target(opt)) {
		p.unknown = true
	}
}

// negatable reads the options that can follow an exclamation mark.
func (p *specParser) negatable(opt string, not bool) bool {
	r, x := &p.rule, &p.rare
	switch opt {
	case "-s":
		r.Src = AddrMatch{p.prefix(), not}
	case "-d":
		r.Dst = AddrMatch{p.prefix(), not}
	case "-i":
		x.In = InterfaceMatch{p.next(), not}
	case "--ctstate":
		x.State = StateMatch{p.states(), not}
	case "--mark":
		v, m := p.markAndMask()
		x.Mark = MarkMatch{v, m, not}
		p.unknown = p.unknown || m == 0
	default:
		return false
	}
	return true
}

// match reads the options that cannot be negated here.
func (p *specParser) match(opt string) bool {
	r, x := &p.rule, &p.rare
	switch opt {
	case "-p":
		r.Protocol = p.protocol()
	case "-m":
		p.module()
	case "--comment":
		r.Comment = p.next()
	case "--dport":
		r.DstPort = p.ports()
	case "--src-type":
		r.SrcLocal = p.want("LOCAL")
	case "--dst-type":
		r.DstLocal = p.want("LOCAL")
	case "--mode":
		p.want("random")
	case "--probability":
		r.Statistic = p.probability()
	case "--set":
		x.Recent.Op = p.recentOp(RecentSet)
	case "--rcheck":
		x.Recent.Op = p.recentOp(RecentCheck)
	case "--seconds":
		x.Recent.Seconds = p.number()
	case "--reap":
		x.Recent.Reap = true
	case "--name":
		x.Recent.List = p.next()
	case "--mask":
		p.fullMask()
	case "--rsource":
	case "--nfacct-name":
		x.NFAcct = p.next()
	default:
		return false
	}
	return true
}

func (p *specParser) target(opt string) bool {
	t, x := &p.rule.Target, &p.rare
	switch opt {
	case "-j":
		t.Name = p.next()
	case "-g":
		t.Name, t.Goto = p.next(), true
	case "--to-destination":
		t.ToDestination = p.addrPort()
	case "--set-xmark", "--set-mark", "--or-mark", "--xor-mark", "--and-mark":
		x.SetMark = p.markUpdate(opt)
	case "--random-fully":
		x.RandomFully = true
	case "--reject-with":
		if x.RejectWith = p.next(); x.RejectWith == defaultReject(p.family) {
			x.RejectWith = ""
		}
	default:
		return false
	}
	return true
}

func (p *specParser) want(word string) bool {
	if p.next() != word {
		p.unknown = true
	}
	return true
}

// module accepts the matches whose options are understood. One that comes
// without options, as "-m tcp" may, matches everything.
func (p *specParser) module() {
	switch p.next() {
	case "comment", "addrtype", "conntrack", "mark", "statistic", "recent", "nfacct", "tcp", "udp", "sctp":
	default:
		p.unknown = true
	}
}

func (p *specParser) prefix() netip.Prefix {
	w := p.next()
	if !strings.Contains(w, "/") {
		w += "/" + strconv.Itoa(p.family.Bits())
	}
	pre, err := netip.ParsePrefix(w)
	if err != nil || FamilyOf(pre.Addr()) != p.family {
		p.unknown = true
	}
	return pre.Masked()
}

func (p *specParser) addrPort() netip.AddrPort {
	ap, err := netip.ParseAddrPort(p.next())
	if err != nil || FamilyOf(ap.Addr()) != p.family {
		p.unknown = true
	}
	return ap
}

func (p *specParser) protocol() Protocol {
	switch w := Protocol(p.next()); w {
	case TCP, UDP, SCTP:
		return w
	}
	p.unknown = true
	return ""
}

func (p *specParser) states() ConnState {
	var s ConnState
	for w := range strings.SplitSeq(p.next(), ",") {
		i := slices.IndexFunc(stateNames, func(n struct {
			state ConnState
			name  string
		}) bool {
			return n.name == w
		})
		if i < 0 {
			p.unknown = true
			return 0
		}
		s |= stateNames[i].state
	}
	return s
}

func (p *specParser) ports() PortRange {
	first, last, isRange := strings.Cut(p.next(), ":")
	if !isRange {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	r := PortRange{uint16(a), uint16(b)}
	if err1 != nil || err2 != nil || r == (PortRange{}) {
		p.unknown = true
	}
	return r
}

func (p *specParser) number() uint32 {
	return p.uint32(p.next())
}

func (p *specParser) uint32(w string) uint32 {
	v, err := strconv.ParseUint(w, 0, 32)
	if err != nil {
		p.unknown = true
	}
	return uint32(v)
}

func (p *specParser) markAndMask() (value, mask uint32) {
	v, m, masked := strings.Cut(p.next(), "/")
	if !masked {
		return p.uint32(v), math.MaxUint32
	}
	return p.uint32(v), p.uint32(m)
}

// markUpdate turns MARK's five ways to say it into the one the kernel keeps.
func (p *specParser) markUpdate(opt string) MarkUpdate {
	v, m := p.markAndMask()
	switch opt {
	case "--set-mark":
		return MarkUpdate{v, v | m}
	case "--or-mark":
		return MarkUpdate{v, v}
	case "--xor-mark":
		return MarkUpdate{v, 0}
	case "--and-mark":
		return MarkUpdate{0, ^v}
	}
	return MarkUpdate{v, m}
}

func (p *specParser) probability() Probability {
	x, err := strconv.ParseFloat(p.next(), 64)
	if err != nil || !(x > 0 && x <= 1) {
		p.unknown = true
		return 0
	}
	v := Probability(math.Round(x * certain))
	p.unknown = p.unknown || v == 0
	return v
}

// recentOp takes the operation of a recent match: there can be only one.
func (p *specParser) recentOp(op RecentOp) RecentOp {
	if p.rare.Recent.Op != RecentNone {
		p.unknown = true
	}
	return op
}

// fullMask accepts recent's --mask only if it compares whole addresses, the default.
func (p *specParser) fullMask() {
	m, err := netip.ParseAddr(p.next())
	if err != nil || FamilyOf(m) != p.family {
		p.unknown = true
		return
	}
	for _, b := range m.AsSlice() {
		p.unknown = p.unknown || b != 0xff
	}
}
