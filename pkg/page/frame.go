package page

import (
	"strconv"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// frame is what every page has.
type frame struct {
	title   string
	node    string // its name; empty: it is not known
	refresh int    // seconds; 0: the page does not change
	trace   bool   // there is a page for traces
}

// document returns the whole page that shows content.
func (f frame) document(content []g.Node) g.Node {
	return h.Doctype(h.HTML(h.Lang("en"),
		f.head(),
		h.Body(
			h.A(h.Class("skip"), h.Href("#main"), g.Text("Skip to the content")),
			f.header(),
			h.Main(h.ID("main"), g.Group(content)),
		),
	))
}

func (f frame) head() g.Node {
	title := f.title
	if f.node != "" {
		title += " · " + f.node
	}
	return h.Head(
		h.Meta(h.Charset("utf-8")),
		h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
		h.Meta(h.Name("color-scheme"), h.Content("light dark")),
		h.TitleEl(g.Text(title+" · svcproxy")),
		h.Link(h.Rel("icon"), h.Href(Base+"icon.svg"), h.Type("image/svg+xml")),
		h.Link(h.Rel("stylesheet"), h.Href(Base+"style.css")),
		g.If(f.refresh > 0, g.Group{
			h.Script(h.Src(Base+"live.js"), h.Defer()),
			h.NoScript(h.Meta(g.Attr("http-equiv", "refresh"), h.Content(strconv.Itoa(f.refresh)))),
		}),
	)
}

// header leads to the other pages, and says how often this one is made anew: live.js
// reads that, and uses the button.
func (f frame) header() g.Node {
	return h.Header(
		h.Nav(h.Aria("label", "Pages"),
			h.A(h.Class("brand"), h.Href(Root), g.Text("svcproxy")),
			g.If(f.trace, g.Group{g.Text(" "), h.A(h.Href(tracePath), g.Text("Trace"))}),
		),
		g.If(f.refresh > 0, h.P(h.Class("live"), h.Role("status"), h.Data("seconds", strconv.Itoa(f.refresh)),
			h.Span(g.Textf("Updated every %d seconds", f.refresh)), g.Text(" "),
			h.Button(h.Type("button"), g.Attr("hidden"), g.Text("Pause")),
		)),
	)
}

// up leads from a page to the list.
func (f frame) up() g.Node {
	node := f.node
	if node == "" {
		node = "this node"
	}
	return h.P(h.Class("up"), h.A(h.Href(Root), g.Text("‹ all Services of "+node)))
}

// remark is a sentence of which about stands out; none without text. kind is fair or
// bad.
func remark(kind, about, text string) g.Node {
	if text == "" {
		return nil
	}
	return h.P(h.Class("remark "+kind), h.Strong(g.Text(about+":")), g.Text(" "+text))
}

// scroll is what may be wider than the page. label says what it is to those who do not
// see it.
func scroll(label string, content ...g.Node) g.Node {
	return h.Div(h.Class("scroll"), h.Role("region"), h.Aria("label", label), h.TabIndex("0"), g.Group(content))
}

// heads are those of a table's columns.
func heads(titles ...string) g.Node {
	return g.Map(titles, func(title string) g.Node { return h.Th(h.Scope("col"), g.Text(title)) })
}
