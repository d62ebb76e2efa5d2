package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// UnknownVerdict ends a branch at a rule of which nobody knows what it does.
const UnknownVerdict = "UNKNOWN"

// Layer is the rules of one backend: the kernel sends each packet through all.
type Layer struct {
	Name string // empty: there is one, and its name does not matter
	Save *Save
}

// Journey is a packet's whole way through the rules of a node.
type Journey struct {
	Passages []*Passage `json:"hooks"` // in the order in which the packet comes by
	Ends     []End      `json:"fates"` // most likely first

	// Unknown are rules that keep the answer from being complete; empty: none does, as
	// packets end alike whatever they do.
	Unknown []Unknown `json:"notUnderstood,omitempty"`
}

// Passage is what a packet meets in one built-in chain.
type Passage struct {
	Layer  string    `json:"backend,omitempty"`
	Table  TableName `json:"table"`
	Chain  string    `json:"chain"`
	Looped bool      `json:"looped,omitempty"` // of a packet that the node sent to itself

	Share    float64 `json:"share"`            // of all packets like this one, that get here
	Policy   string  `json:"policy,omitempty"` // empty: not known, which is ACCEPT
	ByPolicy float64 `json:"shareByPolicy"`    // of all packets, that this decides on
	Steps    []*Step `json:"rules,omitempty"`  // that it met, in the order of the chain
}

// Step is a rule that matched.
type Step struct {
	Table    TableName `json:"table"`
	Chain    string    `json:"chain"`
	Number   int       `json:"number"` // in its chain, from 1
	Text     string    `json:"rule"`   // as the save has it, behind the chain's name
	Counters *Counters `json:"counters,omitempty"`
	Rule     Rule      `json:"-"`

	Target      string  `json:"target,omitempty"`      // empty: it counts, or is there for its matches
	Foreign     bool    `json:"foreign,omitempty"`     // of no service proxy
	Perhaps     bool    `json:"perhaps,omitempty"`     // it may match a packet that gets to it, or not
	Probability float64 `json:"probability,omitempty"` // with which it takes a packet that gets to it; 0: always
	Share       float64 `json:"share"`                 // of all packets, that it takes
	Unsure      bool    `json:"unsure,omitempty"`      // Share is the most that it can be

	Steps []*Step `json:"rules,omitempty"` // of the chain that it leads to
}

// End is a fate, and who decided it.
type End struct {
	Fate
	Mark uint32 `json:"mark,omitempty"` // that the packet had when it was routed

	// Unsure: it hangs on one of Unknown whether a packet ends so. Probability is the
	// most it can be then.
	Unsure bool `json:"unsure,omitempty"`

	Where    string   `json:"where,omitempty"` // that was decided; empty: the packet was let through everywhere
	By       *Step    `json:"-"`               // the rule that ended it; nil: none did
	ByPolicy *Passage `json:"-"`               // the chain whose policy ended it; nil: none did
}

// Arrives reports whether the rules let the packet through.
func (e *End) Arrives() bool { return e.Verdict == Accept }

// Unknown is a rule that is not understood, at which a packet came by.
type Unknown struct {
	Layer  string    `json:"backend,omitempty"`
	Table  TableName `json:"table"`
	Chain  string    `json:"chain"`
	Number int       `json:"number"`
	Text   string    `json:"rule"`
	Why    string    `json:"why"`
}

// Trace sends a packet through the rules as Walk does, and tells its way. A rule that
// is not understood is no error: both ways are followed where it may match, and the
// way ends where nobody knows what it does. It is an error that a chain which the
// packet gets to cannot be read.
func Trace(layers []Layer, host Host, p Packet) (*Journey, error) {
	w := walker{host: &host, packet: &p, journey: &Journey{}}
	for _, l := range layers {
		w.layers = append(w.layers, layer{name: l.Name, source: l.Save, wordless: l.Save.nft})
	}
	states, err := w.walk()
	if err != nil {
		return nil, err
	}
	w.journey.Ends = mergeEnds(states)
	if uncertain(states) {
		w.journey.Unknown = w.unknown
	}
	return w.journey, nil
}

// chain makes a Save something to walk through.
func (s *Save) chain(t TableName, name string) (*Chain, error) {
	c, err := s.Chain(t, name)
	if c == nil || err != nil {
		return nil, err
	}
	return &c.Chain, nil
}

// enter notes that a share of all packets comes to a built-in chain, and returns its
// beginning.
func (w *walker) enter(l *layer, h hook, c *Chain, share float64) place {
	at := place{layer: l, table: h.table, chain: c}
	if w.journey == nil {
		return at
	}
	for _, p := range w.journey.Passages {
		if p.Layer == l.name && p.Table == h.table && p.Chain == h.chain && p.Looped == h.looped {
			at.passage = p
		}
	}
	if at.passage == nil {
		at.passage = &Passage{Layer: l.name, Table: h.table, Chain: h.chain, Looped: h.looped, Policy: c.Policy}
		w.journey.Passages = append(w.journey.Passages, at.passage)
	}
	at.passage.Share += share
	at.steps = &at.passage.Steps
	return at
}

// decide notes that the policy decides on a share of all packets. It returns the
// passage; nil if nobody asks.
func (p *Passage) decide(share float64) *Passage {
	if p != nil {
		p.ByPolicy += share
	}
	return p
}

// meet notes that a packet matched, or may match, the rule of a place. It returns what is noted; nil
// if nobody asks.
func (w *walker) meet(at *place, s *state, perhaps bool) *Step {
	if at.steps == nil {
		return nil
	}
	n, found := slices.BinarySearchFunc(*at.steps, at.i+1, func(s *Step, number int) int { return cmp.Compare(s.Number, number) })
	if !found {
		*at.steps = slices.Insert(*at.steps, n, at.step())
	}
	step := (*at.steps)[n]
	step.Share += s.share
	step.Unsure = step.Unsure || s.unsure
	step.Perhaps = step.Perhaps || perhaps
	return step
}

// step is the rule of a place, which nothing has met yet.
func (at *place) step() *Step {
	r := &at.chain.Rules[at.i]
	s := &Step{Table: at.table, Chain: at.chain.Name, Number: at.i + 1, Text: at.spec(), Rule: *r, Target: r.Target.Name}
	s.Foreign = !Owned(at.table, s.Chain) && !Owned(at.table, r.Jump())
	if r.Statistic != 0 && r.Statistic != certain {
		s.Probability = r.Statistic.Float()
	}
	if c := at.saved(); c != nil && c.Counters != nil {
		s.Counters = &c.Counters[at.i]
	}
	return s
}

// spec is the rule of a place as its source has it.
func (at *place) spec() string {
	if c := at.saved(); c != nil {
		return c.Specs[at.i]
	}
	return at.chain.Rules[at.i].String()
}

// saved is the chain of a place as a save has it; nil: it is from elsewhere.
func (at *place) saved() *SavedChain {
	save, ok := at.layer.source.(*Save)
	if !ok {
		return nil
	}
	c, err := save.Chain(at.table, at.chain.Name)
	if err != nil {
		return nil // it has been read before
	}
	return c
}

// mergeEnds adds up equal ends and sorts them.
func mergeEnds(states []state) []End {
	sum := map[End]float64{}
	for i := range states {
		s := &states[i]
		e := End{Fate: s.fate(), Mark: s.routed, Unsure: s.unsure}
		if s.stopped() {
			e.By, e.ByPolicy, e.Where = s.by, s.policy, s.where()
		}
		e.Probability = 0
		sum[e] += s.share
	}
	out := make([]End, 0, len(sum))
	for e, p := range sum {
		e.Probability = min(p, 1)
		out = append(out, e)
	}
	slices.SortFunc(out, compareEnds)
	return out
}

func compareEnds(a, b End) int {
	return cmp.Or(compareFates(a.Fate, b.Fate), strings.Compare(a.Where, b.Where))
}

// where names what stopped a packet, for people.
func (s *state) where() string {
	switch {
	case s.by != nil:
		return fmt.Sprintf("%s %s rule %d", s.by.Table, s.by.Chain, s.by.Number)
	case s.policy != nil:
		return fmt.Sprintf("the policy of %s %s", s.policy.Table, s.policy.Chain)
	}
	return ""
}
