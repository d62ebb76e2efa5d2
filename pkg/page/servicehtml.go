package page

import (
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"svcproxy/pkg/status"
)

// serviceDetails is what changes of a Service while it is looked at.
func serviceDetails(s *status.Service, n *status.Node) g.Node {
	out := g.Group{h.ID("service"), h.Class("fresh"),
		h.P(h.Class("asof"), g.Text("as of "+clock(n.Now))),
		noCounters(n),
		serviceFacts(s, n.Now),
		quarantines(s.Quarantine, n.Now),
	}
	for port := range s.Ports {
		out = append(out, portSection(s, port, n.Now))
	}
	return h.Div(out, h.P(h.Class("hint"),
		g.Text("Connections and measured shares are those since the chain was last written, which a change of the endpoints does."),
	))
}

func serviceFacts(s *status.Service, now time.Time) g.Node {
	fact := func(about, words string) g.Node { return h.Div(h.Dt(g.Text(about)), h.Dd(g.Text(words))) }
	changed := s.Changed.Words(now)
	if changed == "" {
		changed = "not since svcproxy started"
	}
	return h.Dl(h.Class("facts"),
		fact("Last change in the kernel", changed),
		fact("Traffic inside the cluster", "policy "+s.Internal),
		g.If(s.External != "", fact("Traffic from outside", "policy "+s.External)),
		g.If(s.Affinity != 0, fact("Session affinity", "client IP, for "+(time.Duration(s.Affinity)*time.Second).String())),
	)
}

// portSection is one port, with a picture for each family.
func portSection(s *status.Service, port int, now time.Time) g.Node {
	p := &s.Ports[port]
	remarks := notes(s, port, now)
	return h.Section(
		h.H2(g.Text(p.Title())),
		g.If(len(remarks) > 0, h.P(remarks)),
		g.Map(families(p), func(family string) g.Node { return Draw(s, p, family).figure() }),
		endpointTable(p),
	)
}

// families lists the families that the port has addresses of.
func families(p *status.Port) []string {
	var out []string
	for _, a := range p.Addresses {
		if len(out) == 0 || out[len(out)-1] != a.Family {
			out = append(out, a.Family)
		}
	}
	return out
}

func endpointTable(p *status.Port) g.Node {
	if len(p.Endpoints) == 0 {
		return h.P(g.Text("There are no endpoints."))
	}
	return scroll("Endpoints of "+p.Title(), h.Table(
		h.THead(h.Tr(heads("Endpoint", "State", "Node"), shareHeads(), heads("Chain"))),
		h.TBody(g.Map(p.Endpoints, func(e status.Endpoint) g.Node {
			return h.Tr(g.If(len(e.Shares) == 0, h.Class("unused")),
				h.Th(h.Scope("row"), h.Class("code"), g.Text(e.Address)),
				h.Td(g.Text(e.State)),
				h.Td(h.Data("label", "on"), g.Text(e.Node)),
				shareCells(&e),
				h.Td(h.Class("code"), g.Text(e.Chain)),
			)
		})),
	))
}
