package page

import (
	"strconv"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// wide is from which width on, in pixels, a picture is made smaller to fit into a
// window.
const wide = 900

// figure is the picture in SVG, with its title.
func (p *Picture) figure() g.Node {
	class := "picture"
	if p.Width > wide {
		class += " wide"
	}
	width, height := strconv.Itoa(p.Width), strconv.Itoa(p.Height)
	return h.Figure(
		scroll(p.Title, h.SVG(h.Class(class), h.Role("img"), h.Width(width), h.Height(height), g.Attr("viewBox", "0 0 "+width+" "+height),
			h.TitleEl(g.Text(p.Title)),
			g.El("desc", g.Text(p.Description)),
			g.Map(p.Lines, Line.path),
			g.Map(p.Boxes, Box.group),
			g.Map(p.Lines, Line.label),
		)),
		h.FigCaption(g.Text(p.Title)),
	)
}

// attr is an attribute with a number.
func attr(name string, value int) g.Node { return g.Attr(name, strconv.Itoa(value)) }

func (l Line) path() g.Node {
	return g.El("path", h.Class("flow"), g.Attr("d", l.Path), g.Attr("stroke-width", l.Weight))
}

func (l Line) label() g.Node {
	return g.If(l.Label != "", g.El("text", h.Class("label"), attr("x", l.X), attr("y", l.Y), g.Text(l.Label)))
}

func (b Box) group() g.Node {
	return g.El("g", h.Class("box "+b.Kind),
		g.El("rect", attr("x", b.X), attr("y", b.Y), attr("width", b.W), attr("height", b.H), attr("rx", 5)),
		g.Map(b.Text, func(t Text) g.Node {
			return g.El("text", attr("x", t.X), attr("y", t.Y), g.If(t.Class != "", h.Class(t.Class)), g.Text(t.Words))
		}),
	)
}
