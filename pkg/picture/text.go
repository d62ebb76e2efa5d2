package picture

import (
	"fmt"
	"strings"
)

// DOT returns the graph in the language of Graphviz.
func DOT(g *Graph) string {
	var b strings.Builder
	fmt.Fprintf(&b, "// %s\ndigraph svcproxy {\n", printable(g.Description))
	fmt.Fprintf(&b, "\trankdir=LR; label=%s; labelloc=t; fontname=\"sans-serif\";\n", dotString(g.Title))
	b.WriteString("\tnode [shape=box fontname=\"monospace\" fontsize=10]; edge [fontname=\"sans-serif\" fontsize=9];\n")
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "\t%s [label=%s%s];\n", dotString(n.ID), dotString(n.Lines...), dotStyle(n.Kind))
	}
	for _, e := range g.Edges {
		fmt.Fprintf(&b, "\t%s -> %s [label=%s penwidth=%.1f];\n", dotString(e.From), dotString(e.To), dotString(e.Label), thickness(e.Share))
	}
	b.WriteString("}\n")
	return b.String()
}

func dotStyle(k Kind) string {
	switch k {
	case Source:
		return " shape=ellipse"
	case Endpoint:
		return " style=bold"
	case Refusal:
		return " style=\"bold,dashed\" shape=octagon"
	case Rest:
		return " style=dashed"
	}
	return ""
}

// dotString quotes lines as one string.
func dotString(lines ...string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var out []string
	for _, l := range lines {
		out = append(out, escape.Replace(printable(l)))
	}
	return `"` + strings.Join(out, `\n`) + `"`
}

// Mermaid returns the graph as a flowchart of Mermaid.
func Mermaid(g *Graph) string {
	var b strings.Builder
	fmt.Fprintf(&b, "flowchart LR\n    accTitle: %s\n    accDescr: %s\n", mermaidLine(g.Title), mermaidLine(g.Description))
	names := map[string]string{}
	for i, n := range g.Nodes {
		names[n.ID] = fmt.Sprintf("n%d", i) // an ID may hold what Mermaid takes for its own words
		open, end := mermaidShape(n.Kind)
		fmt.Fprintf(&b, "    %s%s%s%s\n", names[n.ID], open, mermaidString(n.Lines...), end)
	}
	for _, e := range g.Edges {
		arrow := "-->"
		if e.Label != "" {
			arrow += "|" + mermaidString(e.Label) + "|"
		}
		fmt.Fprintf(&b, "    %s %s %s\n", names[e.From], arrow, names[e.To])
	}
	return b.String()
}

func mermaidShape(k Kind) (open, end string) {
	switch k {
	case Source:
		return "([", "])"
	case Endpoint:
		return "[[", "]]"
	case Refusal:
		return "{{", "}}"
	}
	return "[", "]"
}

// mermaidString quotes lines as one string: entities stand for what is special, as
// there is no other way to escape.
func mermaidString(lines ...string) string {
	var out []string
	for _, l := range lines {
		out = append(out, mermaidLine(l))
	}
	return `"` + strings.Join(out, "<br/>") + `"`
}

func mermaidLine(s string) string {
	return strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "&", "#amp;", ";", "#59;", "`", "#96;").Replace(printable(s))
}

// thickness of an arrow.
func thickness(share float64) float64 { return 1 + 3*min(max(share, 0), 1) }
