package main

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"svcproxy/pkg/rules"
)

// traceReport is what a trace finds. Its JSON form is described in docs/trace.md: what
// is there stays, further fields may come.
type traceReport struct {
	From     traceOrigin    `json:"from"`
	To       traceTarget    `json:"to"`
	Protocol rules.Protocol `json:"protocol,omitempty"`
	Rules    []string       `json:"rules,omitempty"` // where they are from, for people
	rules.Journey

	// Source says why the source is rewritten, where it is.
	Source []string `json:"sourceRewritten,omitempty"`
	// Established is what becomes of further packets; nil: none of the first ones arrives.
	Established *traceEstablished `json:"established,omitempty"`

	// Wire is the way behind the rules; nil: they are not those of this node.
	Wire *wireSection `json:"wire,omitempty"`

	Arrives  string        `json:"arrives"`
	Reasons  []traceReason `json:"reasons,omitempty"` // why it does not, or may not
	Remarks  []string      `json:"remarks,omitempty"` // what else is worth knowing
	Sentence string        `json:"sentence"`          // all of it in one

	noRules      bool // no rule is made for what the packet is for
	unserved     bool // the address is a Service's, nobody else has it, and no rule takes the packet
	orderMatters bool // which of two backends the kernel asks first decides
	otherwise    bool // in the other order of the backends, packets arrive
	but          bool // a reason says what is wrong although new connections arrive
}

// What Arrives may be.
const (
	arrivesYes     = "yes"
	arrivesPartly  = "partly" // some of such packets do
	arrivesNo      = "no"
	arrivesUnknown = "unknown" // rules decide that are not understood
)

// The kinds of a traceOrigin.
const (
	fromNode      = "node"
	fromPod       = "pod"
	fromElsewhere = "address"
)

// traceOrigin is where the packet comes from.
type traceOrigin struct {
	Kind string     `json:"kind"`
	Name string     `json:"name,omitempty"` // of the node or pod, if it is known
	Addr netip.Addr `json:"address"`        // unspecified: the node's, which is not known
	In   string     `json:"interface,omitempty"`
}

func (o *traceOrigin) String() string {
	what := "this node"
	switch {
	case o.Kind == fromPod:
		what = "pod " + o.Name
	case o.Kind == fromElsewhere:
		return o.Addr.String()
	case o.Name != "":
		what = "node " + o.Name
	}
	if o.Addr.IsUnspecified() {
		return what
	}
	return what + " (" + o.Addr.String() + ")"
}

// traceTarget is what the packet is for.
type traceTarget struct {
	Addr    netip.AddrPort `json:"address"`
	Service string         `json:"service,omitempty"` // namespace/name; empty: none is known
	Port    string         `json:"port,omitempty"`    // its name; empty: it has none
	Role    string         `json:"role,omitempty"`    // of the address, as in comments of rules
}

func (t *traceTarget) String() string {
	if t.Service == "" {
		return t.Addr.String()
	}
	role := t.Role
	if role == "" {
		role = "an address"
	}
	return fmt.Sprintf("%s, %s of %s", t.Addr, role, t.Service)
}

// traceEstablished is how further packets of the connection end.
type traceEstablished struct {
	Ends []rules.End `json:"fates"`
}

// traceReason is why a packet does not arrive, or may not.
type traceReason struct {
	Code     string   `json:"code"` // one of docs/trace.md
	Sentence string   `json:"sentence"`
	Look     []string `json:"lookAt,omitempty"` // commands
}

func (r *traceReport) because(code, sentence string, look ...string) {
	r.Reasons = append(r.Reasons, traceReason{code, sentence, look})
}

// conclude works out whether the packet arrives, and says it.
func (r *traceReport) conclude() {
	arriving, unsure := 0.0, false
	for i := range r.Ends {
		e := &r.Ends[i]
		unsure = unsure || e.Unsure || e.Verdict == rules.UnknownVerdict
		if r.gets(e) {
			arriving += e.Probability
		}
	}
	const rounding = 1e-6
	switch {
	case arriving < rounding && !unsure && !r.otherwise:
		r.Arrives = arrivesNo
	case unsure || r.orderMatters:
		r.Arrives = arrivesUnknown
	case arriving > 1-rounding:
		r.Arrives = arrivesYes
	default:
		r.Arrives = arrivesPartly
	}
	if r.Arrives == arrivesYes && r.unserved {
		r.Arrives = arrivesNo
		if r.Reasons[0].Code == codeOtherProxy {
			r.Arrives = arrivesUnknown
		}
	}
	if r.Arrives != arrivesYes && r.ledOn() {
		r.asideLast()
	}
	r.Sentence = r.sentence()
}

// ledOn reports whether rules lead every packet to an endpoint, whatever stops it there.
func (r *traceReport) ledOn() bool {
	return !slices.ContainsFunc(r.Ends, func(e rules.End) bool { return e.Dst == r.To.Addr })
}

// asideLast puts what is wrong with rules that lead on behind what stops the packet.
func (r *traceReport) asideLast() {
	aside := func(x traceReason) bool { return x.Code == codeQuarantined || x.Code == codeRulesDiffer }
	slices.SortStableFunc(r.Reasons, func(a, b traceReason) int {
		switch {
		case aside(a) == aside(b):
			return 0
		case aside(a):
			return 1
		}
		return -1
	})
}

// gets reports whether packets that end so arrive: the rules let them through, and so
// does what is behind them.
func (r *traceReport) gets(e *rules.End) bool { return e.Arrives() && !r.Wire.stops(e) }

// untouched: the rules leave the packet alone.
func (r *traceReport) untouched() bool {
	return len(r.Ends) == 1 && r.Ends[0].Arrives() && r.Ends[0].Dst == r.To.Addr
}

// sentence is the report in one.
func (r *traceReport) sentence() string {
	switch r.Arrives {
	case arrivesYes:
		if r.but {
			return r.arrival() + " But " + r.why()
		}
		return r.arrival()
	case arrivesPartly:
		return fmt.Sprintf("It arrives in %s of all cases only: %s", percent(r.arrivingShare()), r.why())
	case arrivesUnknown:
		return "Whether it arrives cannot be said for certain: " + r.doubt()
	}
	return "It does not arrive: " + r.why()
}

func (r *traceReport) arrivingShare() float64 {
	sum := 0.0
	for i := range r.Ends {
		if r.gets(&r.Ends[i]) {
			sum += r.Ends[i].Probability
		}
	}
	return sum
}

// why is the first reason, which is the nearest.
func (r *traceReport) why() string {
	if len(r.Reasons) == 0 {
		return "no reason was found."
	}
	return r.Reasons[0].Sentence
}

// doubt is the first reason why the answer is not certain.
func (r *traceReport) doubt() string {
	for _, x := range r.Reasons {
		if slices.Contains([]string{codeNotUnderstood, codeUnreadable, codeBackendOrder}, x.Code) {
			return x.Sentence
		}
	}
	return r.why()
}

// arrival says where the packet arrives.
func (r *traceReport) arrival() string {
	var at []netip.AddrPort
	even, masqueraded := true, 0
	for i := range r.Ends {
		e := &r.Ends[i]
		even = even && math.Abs(e.Probability-r.Ends[0].Probability) < 1e-6
		if !slices.Contains(at, e.Dst) {
			at = append(at, e.Dst)
		}
		if e.Masqueraded {
			masqueraded++
		}
	}
	var text string
	switch {
	case len(at) == 1 && at[0] == r.To.Addr:
		text = fmt.Sprintf("No Service's rule takes it, and none keeps it away: it goes on to %s as it is", r.To.Addr)
		if masqueraded == 0 {
			return text + "."
		}
	case len(at) == 1:
		text = fmt.Sprintf("It arrives: %s leads to one endpoint, %s", r.subject(), at[0])
	case even:
		text = fmt.Sprintf("It arrives: %s leads to one of %d endpoints, each with %s, %s", r.subject(), len(at), percent(r.Ends[0].Probability), listAddresses(at))
	default:
		text = fmt.Sprintf("It arrives: %s leads to one of %d endpoints, %s", r.subject(), len(at), listAddresses(at))
	}
	return text + r.sourceClause(masqueraded) + "."
}

func (r *traceReport) sourceClause(masqueraded int) string {
	switch {
	case masqueraded == 0:
		return ", which sees the real source"
	case masqueraded < len(r.Ends):
		return "; some of the connections get an address of the node as their source: " + strings.Join(r.Source, "; ")
	case len(r.Source) == 0:
		return "; the source becomes an address of the node"
	}
	return "; the source becomes an address of the node, because " + strings.Join(r.Source, "; ")
}

func (r *traceReport) subject() string {
	if r.To.Service != "" {
		return r.To.Service
	}
	return r.To.Addr.String()
}

// listAddresses lists the first few.
func listAddresses(at []netip.AddrPort) string {
	const few = 4
	var out []string
	for _, a := range at[:min(len(at), few)] {
		out = append(out, a.String())
	}
	if more := len(at) - few; more > 0 {
		return strings.Join(out, ", ") + fmt.Sprintf(" and %d more", more)
	}
	if len(out) < 2 {
		return strings.Join(out, "")
	}
	return strings.Join(out[:len(out)-1], ", ") + " and " + out[len(out)-1]
}

// percent writes a probability for people: 50%, 33.3%, 0.02%.
func percent(p float64) string {
	switch v := 100 * p; {
	case v > 0 && v < 0.01:
		return "under 0.01%"
	case math.Abs(v-math.Round(v)) < 0.005:
		return fmt.Sprintf("%.0f%%", v)
	case v < 1:
		return fmt.Sprintf("%.2g%%", v)
	default:
		return fmt.Sprintf("%.1f%%", v)
	}
}
