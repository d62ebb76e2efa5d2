package page

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"
)

// traceSection is the form for a trace on other pages, with an address to trace to
// filled in. There is none without a Tracer.
func (s *server) traceSection(to string) g.Node {
	if s.trace == nil {
		return nil
	}
	return h.Section(h.H2(g.Text("Trace a packet")), traceForm{to: to}.html())
}

func (f traceForm) html() g.Node {
	return h.Form(h.Class("filter"), h.Action(tracePath), h.Method("get"),
		h.Label(g.Text("From "), h.Input(h.Name("from"), h.Value(f.from), h.Placeholder("node, a pod or an address"), verbatim())),
		h.Label(g.Text("To "), h.Input(h.Name("to"), h.Value(f.to), h.Placeholder("a Service or an address"), h.Required(), verbatim())),
		h.Label(g.Text("Protocol "), h.Select(h.Name("proto"),
			h.Option(h.Value(""), g.Text("the port's")),
			g.Map([]string{"tcp", "udp", "sctp"}, func(protocol string) g.Node {
				return h.Option(g.If(protocol == f.protocol, h.Selected()), g.Text(protocol))
			}),
		)),
		h.Button(h.Type("submit"), g.Text("Trace")),
	)
}

// verbatim keeps a browser from having a say in what is typed.
func verbatim() g.Node {
	return g.Group{h.AutoComplete("off"), g.Attr("spellcheck", "false")}
}

// traceAnswer shows what a trace came to; nothing if none was made.
func traceAnswer(answer string, err error) g.Node {
	switch {
	case err != nil:
		return remark("bad", "No trace", err.Error())
	case answer != "":
		return scroll("The trace", h.Pre(g.Text(answer)))
	}
	return nil
}
