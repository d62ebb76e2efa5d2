// Package picture draws the chains that packets go through, as text for Graphviz and
// Mermaid and as SVG. Its functions are pure: the same graph is the same text.
package picture

import (
	"slices"
	"strings"
	"unicode"
)

// Graph is boxes with arrows between them. Packets go from left to right.
type Graph struct {
	Title       string // what is to be seen, in a few words
	Description string // in a sentence or two, for those who cannot see it
	Nodes       []Node // in the order in which they come to stand below each other
	Edges       []Edge
}

// Node is a box.
type Node struct {
	ID    string // unique in its graph
	Lines []string
	Kind  Kind
}

// Kind is what a node stands for.
type Kind int

const (
	Chain    Kind = iota // packets go on
	Source               // where they come from
	Endpoint             // where they arrive
	Refusal              // where they are stopped
	Rest                 // others that are left out
)

// Edge is an arrow. Both ends must be nodes of the graph.
type Edge struct {
	From, To string
	Label    string
	Share    float64 // of all packets, from 0 to 1: how thick it is
}

// Node returns the node with an ID; nil: there is none.
func (g *Graph) Node(id string) *Node {
	i := slices.IndexFunc(g.Nodes, func(n Node) bool { return n.ID == id })
	if i < 0 {
		return nil
	}
	return &g.Nodes[i]
}

// Add adds a node, unless it is there.
func (g *Graph) Add(n Node) {
	if g.Node(n.ID) == nil {
		g.Nodes = append(g.Nodes, n)
	}
}

// Connect adds an arrow, or the share to the one that is there.
func (g *Graph) Connect(e Edge) {
	for i := range g.Edges {
		if old := &g.Edges[i]; old.From == e.From && old.To == e.To {
			old.Share += e.Share
			return
		}
	}
	g.Edges = append(g.Edges, e)
}

// printable takes control characters out: nothing in a graph may end a line of the
// text that it becomes.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
}
