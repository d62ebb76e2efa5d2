package rules

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
)

// The tables that are only read, never written.
const (
	rawTable      TableName = "raw"
	mangleTable   TableName = "mangle"
	securityTable TableName = "security"
)

// walker sends a packet through rules, hook by hook, and follows each branch of all
// that can happen to it.
type walker struct {
	layers  []layer // the rules of each backend; the kernel asks one after the other
	host    *Host
	packet  *Packet
	journey *Journey // what is told of the way; nil: nobody asks
	unknown []Unknown
}

// layer is the rules of one backend.
type layer struct {
	name   string
	source chainSource

	// wordless: a rule that says nothing at all may be one that nft made of what
	// iptables has no words for.
	wordless bool
}

// chainSource finds a chain; nil: there is none.
type chainSource interface {
	chain(TableName, string) (*Chain, error)
}

// state is a packet under way: one branch of all that can happen to it.
type state struct {
	dst         netip.AddrPort
	mark        uint32
	anyMark     bool // the mark may be anything
	dnat        bool
	masqueraded bool
	untracked   bool
	looped      bool // sent by the node to itself, and on its way in

	// unsure: whether a packet gets here hangs on a rule that may match and may not.
	// share is the most it can be then.
	unsure bool
	share  float64 // probability of this branch

	routed uint32 // the mark when the packet was routed

	verdict string   // empty: still under way in its chain
	by      *Step    // the rule that the verdict is from; nil: none, or nobody asks
	policy  *Passage // the chain whose policy it is from, in the same way
}

// stopped: the packet goes no further through any hook.
func (s *state) stopped() bool {
	return s.verdict == Drop || s.verdict == Reject || s.verdict == UnknownVerdict
}

func (s *state) fate() Fate {
	verdict := s.verdict
	if !s.stopped() {
		verdict = Accept
	}
	return Fate{verdict, s.dst, s.masqueraded, s.share}
}

type hook struct {
	table  TableName
	chain  string
	looped bool // of a packet that the node sent to itself
}

// walk returns how the packet can end.
func (w *walker) walk() ([]state, error) {
	first := "PREROUTING"
	if w.packet.FromNode {
		first = "OUTPUT"
	}
	states, err := w.hooks([]state{{dst: w.packet.Dst, share: 1}},
		[]hook{{table: rawTable, chain: first}, {table: mangleTable, chain: first}, {table: Nat, chain: first}})
	if err != nil {
		return nil, err
	}
	var ends []state
	for _, s := range states {
		s.routed = s.mark
		out, err := w.hooks([]state{s}, w.way(s.dst.Addr()))
		if err != nil {
			return nil, err
		}
		ends = append(ends, settle(&s, out)...)
	}
	return settle(&state{share: 1}, ends), nil
}

// settle returns one end for a branch that ends in the same way whatever the rules do
// that may match; else the ends as they are.
func settle(s *state, ends []state) []state {
	doubt := false
	for i := range ends {
		a, b := ends[i].fate(), ends[0].fate()
		a.Probability = b.Probability
		if a != b || a.Verdict == UnknownVerdict {
			return ends
		}
		doubt = doubt || ends[i].unsure
	}
	if !doubt || s.unsure {
		return ends
	}
	ends[0].unsure, ends[0].share = false, s.share
	return ends[:1]
}

// uncertain reports whether a packet may end otherwise than it seems.
func uncertain(ends []state) bool {
	return slices.ContainsFunc(ends, func(s state) bool { return s.unsure || s.verdict == UnknownVerdict })
}

// way lists the hooks behind the routing decision. POSTROUTING nat does not see
// packets for the node itself, except those that it made; these are done with nat
// when they come in again.
func (w *walker) way(dst netip.Addr) []hook {
	of := func(looped bool, chain string, tables ...TableName) []hook {
		var out []hook
		for _, t := range tables {
			out = append(out, hook{t, chain, looped})
		}
		return out
	}
	local := w.host.local(dst)
	if !w.packet.FromNode && local {
		return of(false, "INPUT", mangleTable, Filter, securityTable, Nat)
	}
	if !w.packet.FromNode {
		return append(of(false, "FORWARD", mangleTable, Filter, securityTable), of(false, "POSTROUTING", mangleTable, Nat)...)
	}
	way := append(of(false, "OUTPUT", Filter, securityTable), of(false, "POSTROUTING", mangleTable, Nat)...)
	if local {
		way = append(append(way, of(true, "PREROUTING", rawTable, mangleTable)...), of(true, "INPUT", mangleTable, Filter, securityTable)...)
	}
	return way
}

// hooks sends each branch that goes on through one hook after the other.
func (w *walker) hooks(states []state, hooks []hook) ([]state, error) {
	for _, h := range hooks {
		var out []state
		for _, s := range states {
			ends, err := w.hook(s, h)
			if err != nil {
				return nil, err
			}
			out = append(out, ends...)
		}
		states = out
	}
	return states, nil
}

// hook sends a branch through a built-in chain of each layer.
func (w *walker) hook(s state, h hook) ([]state, error) {
	s.looped = s.looped || h.looped
	if s.stopped() {
		return []state{s}, nil
	}
	if h.table == Nat && (w.packet.Tracked != nil || s.untracked) {
		return []state{w.translate(s, h)}, nil
	}
	states := []state{s}
	for i := range w.layers {
		var out []state
		for _, s := range states {
			ends, err := w.layer(&w.layers[i], h, s)
			if err != nil {
				return nil, err
			}
			out = append(out, ends...)
		}
		states = out
	}
	return states, nil
}

// translate does what conntrack does in the place of nat.
func (w *walker) translate(s state, h hook) state {
	t := w.packet.Tracked
	switch {
	case t == nil || s.untracked:
	case h.chain == "POSTROUTING" || h.chain == "INPUT":
		s.masqueraded = t.Masqueraded
	default:
		s.dnat = t.Dst != s.dst
		s.dst = t.Dst
	}
	return s
}

// layer sends a branch through a layer's built-in chain. nat is asked until one has
// rewritten the packet.
func (w *walker) layer(l *layer, h hook, s state) ([]state, error) {
	if s.stopped() || h.table == Nat && s.rewritten(h) {
		return []state{s}, nil
	}
	c, err := l.source.chain(h.table, h.chain)
	if err != nil || c == nil {
		return []state{s}, err
	}
	s.verdict, s.by, s.policy = "", nil, nil
	at := w.enter(l, h, c, s.share)
	ends, err := w.run(at, s)
	if err != nil {
		return nil, err
	}
	for i := range ends {
		if e := &ends[i]; e.verdict == Return || e.verdict == "" {
			e.verdict, e.by = c.Policy, nil
			e.policy = at.passage.decide(e.share)
		}
	}
	return ends, nil
}

// rewritten: the nat of this hook has done what it can.
func (s *state) rewritten(h hook) bool {
	if h.chain == "POSTROUTING" || h.chain == "INPUT" {
		return s.masqueraded
	}
	return s.dnat
}

// place is where in the rules a packet is: at rule i of a chain.
type place struct {
	layer   *layer
	table   TableName
	chain   *Chain
	i       int
	depth   int
	passage *Passage // what is told of the hook; nil: nobody asks
	steps   *[]*Step // what is told of the chain
}

// maxDepth is more than any kernel allows and ends loops,
// which the kernel refuses to load.
const maxDepth = 64

// run returns how s can leave a chain: with a verdict, or with none at its end.
func (w *walker) run(at place, s state) ([]state, error) {
	if at.depth > maxDepth {
		return nil, fmt.Errorf("table %s chain %s: jumps nest more than %d deep", at.table, at.chain.Name, maxDepth)
	}
	var done, next []state
	under := []state{s}
	for at.i = range at.chain.Rules {
		next = next[:0]
		for j := range under {
			out, met, err := w.rule(&at, &under[j])
			if err != nil {
				return nil, err
			}
			if !met {
				next = append(next, under[j])
			}
			for _, o := range out {
				if o.verdict == "" {
					next = append(next, o)
				} else {
					done = append(done, o)
				}
			}
		}
		under, next = distinct(next), under
	}
	done = append(done, under...)
	for i := range done {
		if done[i].verdict == Return {
			done[i].verdict = ""
		}
	}
	return done, nil
}

// distinct joins branches that differ in nothing but how likely they are, where
// rules that may match have made many of them.
func distinct(states []state) []state {
	out := states[:0]
	for _, s := range states {
		if i := like(out, &s); i >= 0 {
			out[i].share = min(1, out[i].share+s.share)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// like returns the index of a branch that s can be joined with; -1: there is none.
func like(states []state, s *state) int {
	if !s.unsure {
		return -1
	}
	return slices.IndexFunc(states, func(o state) bool { return o.same(s) })
}

// same compares all but the shares.
func (s *state) same(o *state) bool {
	bare := *o
	bare.share = s.share
	return bare == *s
}

// action is what a rule does to the packets that it matches.
type action struct {
	Target
	mark    MarkUpdate
	spec    string // of a rule that is not understood as a whole
	perhaps bool   // the rule may match, or not
}

// rule returns what becomes of s at the rule of a place, if it met that; a branch
// without verdict goes on to the next one.
func (w *walker) rule(at *place, s *state) (out []state, met bool, err error) {
	r := &at.chain.Rules[at.i]
	x := r.Rare()
	does, hit := action{Target: r.Target, mark: x.SetMark, spec: x.Unparsed}, no
	switch {
	case at.layer.wordless && *r == Rule{}:
		hit, does.Name = perhaps, "?"
	case x.Unparsed == "":
		hit = w.matches(r, &x, s)
	default:
		f := understand(x.Unparsed, FamilyOf(w.packet.Dst.Addr()))
		hit = w.matchesForeign(f, s)
		does.Target, does.mark = f.rule.Target, f.rare.SetMark
	}
	switch {
	case hit == no:
		return nil, false, nil
	case hit == perhaps:
		out, err = w.perhaps(at, does, *s)
	case r.Statistic == 0 || r.Statistic == certain:
		out, err = w.target(at, does, *s)
	default:
		taken, left := *s, *s
		taken.share *= r.Statistic.Float()
		left.share -= taken.share
		out, err = w.target(at, does, taken)
		out = append(out, left)
	}
	return out, true, err
}

// perhaps follows both ways at a rule that may match. Where they come to the same it
// does not matter which is taken.
func (w *walker) perhaps(at *place, does action, s state) ([]state, error) {
	taken := s
	taken.unsure, does.perhaps = true, true
	out, err := w.target(at, does, taken)
	if err != nil {
		return nil, err
	}
	if len(out) == 1 && out[0].verdict == "" {
		if back := out[0]; back.same(&taken) {
			return []state{s}, nil
		}
	}
	w.note(at, "may match: that hangs on what is not known here")
	s.unsure = true
	return append(out, s), nil
}

// target returns what a rule makes of a packet that it matches.
func (w *walker) target(at *place, does action, s state) ([]state, error) {
	step := w.meet(at, &s, does.perhaps)
	switch does.Name {
	case "":
	case Accept, Drop, Return, Reject:
		s.verdict, s.by = does.Name, step
	case DNAT:
		if !does.ToDestination.IsValid() {
			return w.lost(at, step, s), nil
		}
		s.dst, s.dnat, s.verdict, s.by = does.ToDestination, true, Accept, step
	case Masquerade, sourceNAT:
		s.masqueraded, s.verdict, s.by = true, Accept, step
	case MarkTarget:
		s.mark = s.mark&^does.mark.Mask ^ does.mark.Value
		s.anyMark = does.mark == MarkUpdate{} || s.anyMark && does.mark.Mask != math.MaxUint32
	default:
		return w.jump(at, does, step, s)
	}
	return []state{s}, nil
}

// jump follows a packet into the chain that a rule leads to.
func (w *walker) jump(at *place, does action, step *Step, s state) ([]state, error) {
	to, err := at.layer.source.chain(at.table, does.Name)
	if err != nil {
		return nil, err
	}
	if to == nil {
		return w.extension(at, does, step, s), nil
	}
	inside := *at
	inside.chain, inside.depth = to, at.depth+1
	if step != nil {
		inside.steps = &step.Steps
	}
	ends, err := w.run(inside, s)
	if does.Goto {
		for i := range ends {
			if ends[i].verdict == "" {
				ends[i].verdict = Return
			}
		}
	}
	return ends, err
}

// extension returns what a target makes of a packet that is neither a chain nor one
// that service proxies use.
func (w *walker) extension(at *place, does action, step *Step, s state) []state {
	switch effectOf(does.Name, does.spec) {
	case unknownEffect:
		return w.lost(at, step, s)
	case marks:
		s.anyMark = true
	case untracks:
		s.untracked = true
	}
	return []state{s}
}

// lost ends a branch at a rule of which nobody knows what it does.
func (w *walker) lost(at *place, step *Step, s state) []state {
	w.note(at, "what it does is not known here")
	s.verdict, s.by = UnknownVerdict, step
	return []state{s}
}

// note names a rule that keeps the answer from being complete, once.
func (w *walker) note(at *place, why string) {
	u := Unknown{Layer: at.layer.name, Table: at.table, Chain: at.chain.Name, Number: at.i + 1, Text: at.spec(), Why: why}
	if !slices.Contains(w.unknown, u) {
		w.unknown = append(w.unknown, u)
	}
}
