package main

import (
	"fmt"
	"io"
	"strings"

	"svcproxy/pkg/picture"
	"svcproxy/pkg/rules"
)

// pictured writes the report as a picture of the chains that the packet goes through.
func pictured(draw func(*picture.Graph) string) func(io.Writer, *traceReport) error {
	return func(w io.Writer, r *traceReport) error {
		if r.noRules {
			return fmt.Errorf("there is no picture of this: %s", r.Sentence)
		}
		if _, err := io.WriteString(w, draw(traceGraph(r))); err != nil {
			return fmt.Errorf("print the picture: %w", err)
		}
		return nil
	}
}

func traceSVG(g *picture.Graph) string { return picture.SVG(g, "trace") }

// maxLeaves is how many endpoints a picture shows: more are not seen any more.
const maxLeaves = 40

// traceGraph draws the way from where the packet comes from, by the chains of nat, to
// its endpoints, and to what stops it.
func traceGraph(r *traceReport) *picture.Graph {
	d := graphDrawer{report: r, graph: &picture.Graph{
		Title:       fmt.Sprintf("%s from %s to %s", strings.ToUpper(string(r.Protocol)), r.From.String(), r.To.String()),
		Description: r.Sentence,
	}}
	const from = "from"
	d.graph.Add(picture.Node{ID: from, Lines: []string{r.From.String()}, Kind: picture.Source})
	for _, p := range r.Passages {
		if p.Table == rules.Nat && p.Chain != "POSTROUTING" && p.Chain != "INPUT" {
			d.steps(from, p.Steps)
		}
	}
	d.refusals(from)
	if len(d.graph.Nodes) == 1 {
		d.untouched(from)
	}
	return d.graph
}

type graphDrawer struct {
	report *traceReport
	graph  *picture.Graph
	leaves int
	rest   float64 // the share of endpoints that are left out
}

// steps draws the rules of a chain that packets met.
func (d *graphDrawer) steps(from string, steps []*rules.Step) {
	for _, s := range steps {
		switch {
		case s.Target == "KUBE-MARK-MASQ":
		case s.Rule.Target.ToDestination.IsValid():
			d.endpoint(from, s)
		case len(s.Steps) > 0:
			d.chain(from, s)
		}
	}
}

// chain draws a jump. That into an endpoint's chain is drawn with the endpoint.
func (d *graphDrawer) chain(from string, s *rules.Step) {
	last := s.Steps[len(s.Steps)-1]
	if last.Rule.Target.ToDestination.IsValid() {
		d.endpoint(from, last)
		return
	}
	if !hasEnd(s.Steps) {
		return // such as one that only marks
	}
	d.graph.Add(picture.Node{ID: s.Target, Lines: []string{s.Target}, Kind: picture.Chain})
	d.graph.Connect(picture.Edge{From: from, To: s.Target, Label: percent(s.Share), Share: s.Share})
	d.steps(s.Target, s.Steps)
}

// hasEnd reports whether rules lead to an endpoint.
func hasEnd(steps []*rules.Step) bool {
	for _, s := range steps {
		if s.Rule.Target.ToDestination.IsValid() || hasEnd(s.Steps) {
			return true
		}
	}
	return false
}

func (d *graphDrawer) endpoint(from string, s *rules.Step) {
	if d.leaves++; d.leaves > maxLeaves {
		d.rest += s.Share
		const more = "more"
		d.graph.Add(picture.Node{ID: more, Lines: []string{"more endpoints"}, Kind: picture.Rest})
		d.graph.Node(more).Lines = []string{fmt.Sprintf("%d more endpoints, %s", d.leaves-maxLeaves, percent(d.rest))}
		d.graph.Connect(picture.Edge{From: from, To: more, Share: s.Share})
		return
	}
	id := s.Rule.Target.ToDestination.String()
	lines := []string{id}
	if s.Chain != from {
		lines = []string{s.Chain, id}
	}
	d.graph.Add(picture.Node{ID: id, Lines: lines, Kind: picture.Endpoint})
	d.graph.Connect(picture.Edge{From: from, To: id, Label: percent(s.Share), Share: s.Share})
}

// refusals draws what stops packets, behind where they would have gone.
func (d *graphDrawer) refusals(from string) {
	for i := range d.report.Ends {
		e := &d.report.Ends[i]
		if e.Arrives() {
			continue
		}
		id := e.Verdict + " " + e.Where
		d.graph.Add(picture.Node{ID: id, Lines: []string{e.Verdict, e.Where}, Kind: picture.Refusal})
		behind := from
		if d.graph.Node(e.Dst.String()) != nil {
			behind = e.Dst.String()
		}
		d.graph.Connect(picture.Edge{From: behind, To: id, Label: percent(e.Probability), Share: e.Probability})
	}
}

// untouched draws where a packet goes that no rule takes.
func (d *graphDrawer) untouched(from string) {
	to := d.report.To.Addr.String()
	d.graph.Add(picture.Node{ID: to, Lines: []string{to, "as it is"}, Kind: picture.Endpoint})
	d.graph.Connect(picture.Edge{From: from, To: to, Share: 1})
}
