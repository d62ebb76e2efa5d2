package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"svcproxy/pkg/rules"
)

// writeTraceText writes the report for people.
func writeTraceText(w io.Writer, r *traceReport) error {
	t := traceText{terminal: terminalOf(w), report: r}
	t.head()
	t.journey()
	t.ends()
	if r.Wire != nil {
		t.section("Behind the rules", r.Wire.lines())
	}
	t.reasons()
	t.remarks()
	t.conclusion()
	if _, err := io.WriteString(w, t.out.String()); err != nil {
		return fmt.Errorf("print the trace: %w", err)
	}
	return nil
}

type traceText struct {
	terminal
	report *traceReport
	out    strings.Builder
}

func (t *traceText) linef(format string, args ...any) {
	fmt.Fprintf(&t.out, format+"\n", args...)
}

// paragraph writes text in lines that fit.
func (t *traceText) paragraph(indent, text string) {
	for _, line := range wrap(text, t.lineWidth()-len(indent)) {
		t.linef("%s%s", indent, line)
	}
}

// lineWidth is how long a line of prose may be: what people can read, and a terminal
// can show.
func (t *traceText) lineWidth() int {
	const readable, least = 100, 40
	if t.width == 0 {
		return readable
	}
	return max(least, min(t.width, readable))
}

func (t *traceText) head() {
	r := t.report
	if r.noRules {
		return
	}
	t.linef("%s", t.paint(bold, fmt.Sprintf("%s from %s", strings.ToUpper(string(r.Protocol)), r.From.String())))
	t.linef("%s", t.paint(bold, fmt.Sprintf("to %s", r.To.String())))
	for _, from := range r.Rules {
		t.linef("rules: %s", from)
	}
}

// journey writes what the packet meets, hook by hook.
func (t *traceText) journey() {
	var silent []string
	flush := func() {
		if len(silent) > 0 {
			t.linef("\n%s: %s", strings.Join(silent, ", "), t.paint(faint, "no rule matches"))
			silent = nil
		}
	}
	for _, p := range t.report.Passages {
		if len(p.Steps) == 0 && (p.Policy == "" || p.Policy == rules.Accept) {
			silent = append(silent, hookName(p))
			continue
		}
		flush()
		t.passage(p)
	}
	flush()
}

// hookName names a built-in chain as people know it.
func hookName(p *rules.Passage) string {
	name := string(p.Table) + " " + p.Chain
	if p.Looped {
		name += " (back in)"
	}
	if p.Layer != "" {
		name += " (" + p.Layer + ")"
	}
	return name
}

func (t *traceText) passage(p *rules.Passage) {
	t.linef("\n%s", t.paint(bold, hookName(p)))
	for _, s := range p.Steps {
		t.step(s, 0)
	}
	if p.ByPolicy > 0 && p.Policy != "" {
		colour := faint
		if p.Policy != rules.Accept {
			colour = red
		}
		t.linef("%s  %s", t.columns(p.ByPolicy, nil, false), t.paint(colour, "policy "+p.Policy))
	}
}

// columns are those before a rule: its share, and its packets if any rule has them.
func (t *traceText) columns(share float64, c *rules.Counters, unsure bool) string {
	text := percent(share)
	if unsure {
		text = "?" + text
	}
	out := fmt.Sprintf("%6s", text)
	if !t.counted() {
		return out
	}
	packets := ""
	if c != nil {
		packets = strconv.FormatUint(c.Packets, 10)
	}
	return out + fmt.Sprintf(" %9s", packets)
}

// counted reports whether the rules have counters.
func (t *traceText) counted() bool {
	counted := false
	eachStep(t.report.Passages, func(s, _ *rules.Step) { counted = counted || s.Counters != nil })
	return counted
}

// step writes a rule, what it does, and the rules of the chain that it leads to.
func (t *traceText) step(s *rules.Step, depth int) {
	columns := t.columns(s.Share, s.Counters, s.Unsure)
	indent := strings.Repeat("  ", depth)
	number := fmt.Sprintf("%s%d", indent, s.Number)
	t.linef("%s  %s  %s", columns, number, t.rule(s))
	if does := describeStep(s); does != "" {
		t.linef("%s  %s  %s", strings.Repeat(" ", len(columns)), strings.Repeat(" ", len(number)), t.paint(colourOf(s), "= "+does))
	}
	for _, inside := range s.Steps {
		t.step(inside, depth+1)
	}
}

// rule is the rule as iptables has it, with the chain that stands out.
func (t *traceText) rule(s *rules.Step) string {
	return t.paint(faint, "-A ") + s.Chain + " " + t.paint(faint, s.Text)
}

func colourOf(s *rules.Step) style {
	switch s.Target {
	case rules.Drop, rules.Reject:
		return red
	case rules.DNAT:
		return green
	}
	return amber
}

// describeStep says in words what a rule does, where that is more than to lead on.
func describeStep(s *rules.Step) string {
	var out []string
	if s.Foreign {
		out = append(out, "not a service proxy's rule")
	}
	if s.Perhaps {
		out = append(out, "perhaps: whether it matches is not known here")
	}
	x := s.Rule.Rare()
	switch s.Target {
	case rules.DNAT:
		out = append(out, "the destination becomes "+s.Rule.Target.ToDestination.String())
	case rules.MarkTarget:
		if s.Chain == "KUBE-MARK-MASQ" {
			out = append(out, "marked: the source is to be rewritten")
		} else if s.Chain == "KUBE-POSTROUTING" {
			out = append(out, "the mark is taken off")
		}
	case rules.Masquerade:
		out = append(out, "the source becomes an address of the node")
	case rules.Reject:
		out = append(out, "rejected")
	case rules.Drop:
		out = append(out, "dropped")
	}
	if x.Recent.Op == rules.RecentSet {
		out = append(out, "the client is remembered, and comes here again")
	}
	return strings.Join(out, "; ")
}

// ends writes where packets end.
func (t *traceText) ends() {
	r := t.report
	if len(r.Ends) == 0 {
		return
	}
	t.linef("\n%s", t.paint(bold, "So it ends"))
	const many = 20
	for i := range r.Ends[:min(len(r.Ends), many)] {
		e := &r.Ends[i]
		share := percent(e.Probability)
		if e.Unsure {
			share = "?" + share
		}
		t.linef("%6s  %s", share, t.end(e))
	}
	if more := len(r.Ends) - many; more > 0 {
		t.linef("%6s  and in %d more ways; -o json has all", "", more)
	}
	if r.Established != nil {
		t.paragraph("        ", established(r.Established))
	}
}

// verbs say what is done to a packet.
var verbs = map[string]string{rules.Drop: "dropped", rules.Reject: "rejected"}

func (t *traceText) end(e *rules.End) string {
	switch {
	case e.Verdict == rules.UnknownVerdict:
		return t.paint(amber, "not known, at "+e.Where)
	case !e.Arrives():
		return t.paint(red, verbs[e.Verdict]+" by "+e.Where)
	case e.Masqueraded:
		return t.paint(green, e.Dst.String()) + ", with an address of the node as its source"
	}
	return t.paint(green, e.Dst.String()) + ", with its own source"
}

// established says what becomes of further packets.
func established(e *traceEstablished) string {
	if i := slices.IndexFunc(e.Ends, func(e rules.End) bool { return !e.Arrives() }); i >= 0 {
		stops := "stops them"
		if len(e.Ends) > 1 || e.Ends[i].Unsure || e.Ends[i].Verdict == rules.UnknownVerdict {
			stops = "may stop them"
		}
		return "Further packets of the connection are rewritten alike by conntrack, without asking nat, but " + e.Ends[i].Where + " " + stops + "."
	}
	return "Further packets of the connection go the same way: conntrack rewrites them alike, without asking nat, and filter lets them through."
}

// reasons writes why the packet does not arrive, and what to look at.
func (t *traceText) reasons() {
	all := t.report.Reasons
	if len(all) == 0 {
		return
	}
	t.linef("\n%s", t.paint(bold, "Why"))
	for _, r := range all {
		t.linef("  %s", t.paint(amber, r.Code))
		t.paragraph("    ", r.Sentence)
		for _, command := range r.Look {
			t.linef("      $ %s", t.paint(faint, command))
		}
	}
}

func (t *traceText) section(title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	t.linef("\n%s", t.paint(bold, title))
	for _, line := range lines {
		t.linef("  %s", line)
	}
}

// remarks writes what else is worth knowing.
func (t *traceText) remarks() {
	var lines []string
	for _, r := range t.report.Remarks {
		const further = "  " // of lines of the same remark
		for i, line := range wrap(r, t.lineWidth()-2*len(further)) {
			if i > 0 {
				line = further + line
			}
			lines = append(lines, line)
		}
	}
	t.section("Also", lines)
}

func (t *traceText) conclusion() {
	colour := amber
	switch t.report.Arrives {
	case arrivesYes:
		colour = green
	case arrivesNo:
		colour = red
	}
	t.linef("")
	for _, line := range wrap(t.report.Sentence, t.lineWidth()) {
		t.linef("%s", t.paint(colour, line))
	}
}
