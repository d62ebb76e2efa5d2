package page

import (
	"strconv"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"svcproxy/pkg/status"
)

// shareHeads are the heads above shareCells.
func shareHeads() g.Node {
	number := func(title string) g.Node { return h.Th(h.Scope("col"), h.Class("number"), g.Text(title)) }
	return g.Group{number("Wanted"), heads("Measured"), number("Connections")}
}

// shareCells say which share of the connections an endpoint is to have, and which it
// had: a line for each policy.
func shareCells(e *status.Endpoint) g.Node {
	wanted := g.Group{g.Text("not used")}
	if len(e.Shares) > 0 {
		wanted = g.Group{h.Data("label", "wanted"), g.Map(e.Shares, wantedLine)}
	}
	return g.Group{
		h.Td(h.Class("number"), wanted),
		h.Td(g.Map(e.Shares, measuredLine)),
		h.Td(h.Class("number"), h.Data("label", "connections"), g.Map(e.Shares, func(s status.Share) g.Node {
			return h.Span(h.Class("line"), g.Text(status.Number(s.Connections)))
		})),
	}
}

func wantedLine(s status.Share) g.Node {
	words := status.Percent(s.Wanted)
	if s.Policy == status.PolicyLocal {
		words = "local " + words
	}
	return h.Span(h.Class("line"), g.Text(words))
}

func measuredLine(s status.Share) g.Node {
	words, filled := "no connections", 0.0
	if s.Measured != nil {
		words, filled = status.Percent(*s.Measured), *s.Measured
	}
	return h.Span(h.Class("share"), bar(filled, s.Wanted), g.Text(words))
}

// Of a bar, in pixels.
const (
	barWidth  = 64
	barHeight = 10
)

// bar is a picture of a share: filled as far as is measured, with a mark at what is
// wanted.
func bar(measured, wanted float64) g.Node {
	width, height := strconv.Itoa(barWidth), strconv.Itoa(barHeight)
	return h.SVG(h.Class("bar"), h.Width(width), h.Height(height), g.Attr("viewBox", "0 0 "+width+" "+height), h.Aria("hidden", "true"),
		g.El("rect", h.Class("track"), h.Width(width), h.Height(height), g.Attr("rx", "2")),
		g.El("rect", h.Class("fill"), h.Width(pixels(measured)), h.Height(height), g.Attr("rx", "2")),
		g.El("rect", h.Class("mark"), g.Attr("x", pixels(wanted)), h.Width("2"), h.Height(height)),
	)
}

// pixels is how far a share reaches in a bar.
func pixels(share float64) string { return strconv.Itoa(int(share*barWidth + 0.5)) }

// notes are the remarks on a port of a Service.
func notes(s *status.Service, port int, now time.Time) g.Group {
	return g.Map(s.Notes(port, now), func(n status.Note) g.Node {
		class := "note fair"
		if n.Bad {
			class = "note bad"
		}
		return g.Group{h.Span(h.Class(class), g.Text(n.Text)), g.Text(" ")}
	})
}
