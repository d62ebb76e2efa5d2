package picture

import (
	"fmt"
	"strings"
)

// SVG returns the graph as a picture that stands alone and can stand in a page: it has
// no script, no style sheet and asks for nothing. Lines and letters have the colour of
// the text around it; id begins its IDs, so that several can stand in one page.
func SVG(g *Graph, id string) string {
	boxes, width, height := layout(g)
	width = max(width, float64(len([]rune(g.Title)))*letter+2*margin)
	d := drawing{boxes: map[string]*box{}}
	for _, b := range boxes {
		d.boxes[b.node.ID] = b
	}
	d.linef(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-labelledby="%[5]s-title %[5]s-desc" fill="none" stroke="currentColor" font-family="ui-monospace, monospace" font-size="%[6]d">`,
		width, height, width, height, escape(id), fontSize)
	d.linef(`<title id="%s-title">%s</title>`, escape(id), escape(g.Title))
	d.linef(`<desc id="%s-desc">%s</desc>`, escape(id), escape(g.Description))
	d.linef(`<defs><marker id="%s-arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="currentColor" stroke="none"/></marker></defs>`, escape(id))
	d.text(margin, margin+fontSize, "start", g.Title, ` font-weight="bold"`)
	for _, e := range g.Edges {
		d.arrow(&e, id)
	}
	for _, b := range boxes {
		d.box(b)
	}
	d.linef("</svg>")
	return d.out.String()
}

type drawing struct {
	boxes map[string]*box
	out   strings.Builder
}

func (d *drawing) linef(format string, args ...any) { fmt.Fprintf(&d.out, format+"\n", args...) }

func (d *drawing) text(x, y float64, anchor, text, more string) {
	d.linef(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="currentColor" stroke="none"%s>%s</text>`, x, y, anchor, more, escape(text))
}

// box draws a node. What it stands for is told by its shape as well, never by colour
// alone.
func (d *drawing) box(b *box) {
	radius, more := 3, ""
	switch b.node.Kind {
	case Source:
		radius = int(b.height / 2)
	case Endpoint:
		more = ` stroke-width="2.5"`
	case Refusal:
		more = ` stroke-width="2.5" stroke-dasharray="6 3"`
	case Rest:
		more = ` stroke-dasharray="2 3"`
	}
	d.linef(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%d"%s/>`, b.x, b.y, b.width, b.height, radius, more)
	for i, line := range b.node.Lines {
		d.text(b.x+b.width/2, b.y+padding/2+float64(i+1)*lineHeight-4, "middle", line, "")
	}
}

// arrow draws an edge, with its label before the box that it leads to.
func (d *drawing) arrow(e *Edge, id string) {
	from, to := d.boxes[e.From], d.boxes[e.To]
	if from == nil || to == nil {
		return
	}
	x1, y1 := from.right()
	x2, y2 := to.left()
	half := (x2 - x1) / 2
	d.linef(`<path d="M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f" stroke-width="%.1f" marker-end="url(#%s-arrow)"/>`,
		x1, y1, x1+half, y1, x2-half, y2, x2, y2, thickness(e.Share), escape(id))
	if e.Label == "" {
		return
	}
	beside := -5.0 // above the line, or below one that comes from above
	if y2 > y1 {
		beside = 13
	}
	d.text(x2-12, y2+beside, "end", e.Label, ` font-size="10"`)
}

// escape makes text of SVG: no character of it is taken for markup.
func escape(s string) string {
	s = strings.ToValidUTF8(printable(s), "\ufffd")
	s = strings.Map(func(r rune) rune {
		if r == 0xfffe || r == 0xffff {
			return '\ufffd'
		}
		return r
	}, s)
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;").Replace(s)
}
