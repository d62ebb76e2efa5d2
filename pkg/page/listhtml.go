package page

import (
	"strconv"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"svcproxy/pkg/status"
)

func listTitle(n *status.Node) g.Node {
	if n.Name == "" {
		return h.H1(g.Text("This node"))
	}
	return h.H1(g.Text(n.Name))
}

// listFilter is the form that says which Services are listed, and in which order.
func listFilter(q *status.Query) g.Node {
	return g.Group{
		h.H2(g.Text("Services")),
		h.Form(h.Class("filter"), h.Action(Root), h.Method("get"), h.Role("search"), h.Aria("label", "Services"),
			h.Label(g.Text("Part of namespace/name "), h.Input(h.Type("search"), h.Name("search"), h.Value(q.Search), verbatim())),
			h.Label(g.Text("Sort by "), h.Select(h.Name("sort"), g.Map(status.Orders(), func(o status.Order) g.Node {
				return h.Option(h.Value(string(o)), g.If(o == q.Sort, h.Selected()), g.Text(orderWords(o)))
			}))),
			h.Label(h.Class("check"),
				h.Input(h.Type("checkbox"), h.Name("trouble"), h.Value("true"), g.If(q.Trouble, h.Checked())),
				g.Text(" only where something is wrong"),
			),
			h.Button(h.Type("submit"), g.Text("Show")),
		),
	}
}

func orderWords(o status.Order) string {
	switch o {
	case status.ByName:
		return "name"
	case status.ByConnections:
		return "most connections"
	case status.ByEndpoints:
		return "most endpoints"
	case status.ByChange:
		return "latest change"
	}
	return string(o)
}

// listServices is the list's table, with which part of the Services it shows.
func listServices(q *status.Query, r *status.Report) g.Node {
	return h.Div(h.ID("services"), h.Class("fresh"),
		h.P(
			g.Text(shownWords(&r.Selection)),
			g.If(q.Search != "" || q.Trouble, g.Group{g.Text(" · "), h.A(h.Href(Root), g.Text("show all"))}),
		),
		listTable(r),
		listParts(q, r.Selection.Matched),
	)
}

func shownWords(sel *status.Selection) string {
	total := strconv.Itoa(sel.Total)
	switch {
	case sel.Matched == 0 && sel.Total == 0:
		return "None"
	case sel.Matched == 0:
		return "None of " + total + " matches"
	}
	from, to := min(sel.Offset+1, sel.Matched), sel.Offset+sel.Shown
	words := strconv.Itoa(from) + " to " + strconv.Itoa(to) + " of " + strconv.Itoa(sel.Matched)
	if sel.Matched != sel.Total {
		words += " that match, of " + total + " in all"
	}
	return words
}

func listTable(r *status.Report) g.Node {
	var rows g.Group
	for i := range r.Services {
		s := &r.Services[i]
		for port := range s.Ports {
			rows = append(rows, portRows(s, port, r.Node.Now))
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return scroll("Services", h.Table(
		h.THead(h.Tr(heads("Service", "Port", "Addresses", "Endpoint"), shareHeads(), heads("Changed", "Remarks"))),
		rows,
	))
}

// listParts leads to the parts of the list before and behind the one that is shown.
func listParts(q *status.Query, matched int) g.Node {
	before, behind := q.Offset-perPage, q.Offset+perPage
	number := strconv.Itoa(perPage)
	return h.Nav(h.Class("pages"), h.Aria("label", "Parts of the list"),
		g.If(before > -perPage && before < matched, h.A(h.Href(pageLink(q, before)), h.Rel("prev"), g.Text("‹ Previous "+number))),
		g.Text(" "),
		g.If(behind < matched, h.A(h.Href(pageLink(q, behind)), h.Rel("next"), g.Text("Next "+number+" ›"))),
	)
}

// listedEndpoints bounds the endpoints of a port in the list.
const listedEndpoints = 4

// portRows is one port of a Service: a row for each endpoint, and cells about the port
// itself that go over all of them.
func portRows(s *status.Service, port int, now time.Time) g.Node {
	p, changed := &s.Ports[port], ""
	if port == 0 {
		changed = s.Changed.Words(now)
	}
	rows := endpointRows(s, p)
	all := h.RowSpan(strconv.Itoa(len(rows)))
	out := g.Group{h.Tr(
		h.Th(h.Scope("row"), all, h.A(h.Href(serviceLink(s)), g.Text(s.ID()))),
		h.Td(h.Class("own nowrap"), all, g.Text(p.Title())),
		h.Td(h.Class("own"), all, g.Map(p.Addresses, func(a status.Address) g.Node {
			return h.Span(h.Class("line code"), g.Text(a.Address))
		})),
		rows[0],
		h.Td(h.Class("tail"), all, g.If(changed != "", h.Data("label", "changed")), g.Text(changed)),
		h.Td(h.Class("tail"), all, notes(s, port, now)),
	)}
	for _, cells := range rows[1:] {
		out = append(out, h.Tr(cells))
	}
	return h.TBody(out)
}

// endpointRows returns the cells of each row of a port, at least one.
func endpointRows(s *status.Service, p *status.Port) []g.Node {
	var out []g.Node
	shown := p.Endpoints[:min(len(p.Endpoints), listedEndpoints)]
	for i := range shown {
		out = append(out, g.Group{addressCell(&shown[i]), shareCells(&shown[i])})
	}
	if len(shown) == 0 {
		out = append(out, h.Td(h.ColSpan("4"), g.Text("none")))
	}
	if more := len(p.Endpoints) - len(shown); more > 0 {
		out = append(out, h.Td(h.ColSpan("4"), h.A(h.Href(serviceLink(s)), g.Textf("and %d more", more))))
	}
	return out
}

func addressCell(e *status.Endpoint) g.Node {
	class := "nowrap"
	if len(e.Shares) == 0 {
		class += " unused"
	}
	return h.Td(h.Class(class),
		h.Span(h.Class("code"), g.Text(e.Address)),
		g.If(e.State != status.Ready, g.Group{g.Text(" "), h.Span(h.Class("note fair"), g.Text(e.State))}),
	)
}
