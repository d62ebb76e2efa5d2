package picture

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func twoEndpoints() *Graph {
	g := &Graph{Title: "a <b> & \"c\"", Description: "one of two"}
	g.Add(Node{"from", []string{"node here"}, Source})
	g.Add(Node{"KUBE-SERVICES", []string{"KUBE-SERVICES"}, Chain})
	g.Add(Node{"a", []string{"KUBE-SEP-A", "10.0.0.1:80"}, Endpoint})
	g.Add(Node{"b", []string{"KUBE-SEP-B", "10.0.0.2:80"}, Endpoint})
	g.Connect(Edge{"from", "KUBE-SERVICES", "", 1})
	g.Connect(Edge{"KUBE-SERVICES", "a", "50%", 0.25})
	g.Connect(Edge{"KUBE-SERVICES", "b", "50%", 0.5})
	g.Connect(Edge{"KUBE-SERVICES", "a", "50%", 0.25})
	return g
}

func TestConnectAddsUp(t *testing.T) {
	g := twoEndpoints()
	if len(g.Edges) != 3 || g.Edges[1].Share != 0.5 {
		t.Errorf("edges %+v", g.Edges)
	}
}

func TestLayout(t *testing.T) {
	boxes, width, height := layout(twoEndpoints())
	at := map[string]*box{}
	for _, b := range boxes {
		at[b.node.ID] = b
	}
	if at["from"].column != 0 || at["KUBE-SERVICES"].column != 1 || at["a"].column != 2 || at["b"].column != 2 {
		t.Errorf("columns: %+v %+v %+v %+v", at["from"], at["KUBE-SERVICES"], at["a"], at["b"])
	}
	_, a := at["a"].left()
	_, b := at["b"].left()
	if _, y := at["KUBE-SERVICES"].right(); a >= b || y != (a+b)/2 {
		t.Errorf("the fork is at %g, its ends at %g and %g", y, a, b)
	}
	checkPlaced(t, boxes, width, height)
}

// checkPlaced: every box is within the picture, and none is on another.
func checkPlaced(t interface{ Errorf(string, ...any) }, boxes []*box, width, height float64) {
	for i, b := range boxes {
		if b.x < 0 || b.y < 0 || b.x+b.width > width || b.y+b.height > height {
			t.Errorf("%s at %g,%g is not within %g x %g", b.node.ID, b.x, b.y, width, height)
		}
		for _, o := range boxes[:i] {
			if b.x < o.x+o.width && o.x < b.x+b.width && b.y < o.y+o.height && o.y < b.y+b.height {
				t.Errorf("%s is on %s", b.node.ID, o.node.ID)
			}
		}
	}
}

// A tree of any shape, with any text in it, becomes well-formed SVG whose boxes do not
// lie on each other, and text of which each line is one statement.
func TestAnyTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &Graph{Title: rapid.String().Draw(t, "title"), Description: rapid.String().Draw(t, "description")}
		n := rapid.IntRange(1, 20).Draw(t, "nodes")
		for i := range n {
			g.Add(Node{fmt.Sprint(i), []string{rapid.String().Draw(t, "label")}, Kind(rapid.IntRange(0, 4).Draw(t, "kind"))})
			if i > 0 {
				from := fmt.Sprint(rapid.IntRange(0, i-1).Draw(t, "from"))
				g.Connect(Edge{from, fmt.Sprint(i), rapid.String().Draw(t, "edge"), 0.5})
			}
		}
		boxes, width, height := layout(g)
		checkPlaced(t, boxes, width, height)
		checkXML(t, SVG(g, "p"))
		if lines := strings.Count(DOT(g), "\n"); lines != 5+2*n-1 {
			t.Fatalf("%d lines of DOT for %d nodes:\n%s", lines, n, DOT(g))
		}
		if lines := strings.Count(Mermaid(g), "\n"); lines != 3+2*n-1 {
			t.Fatalf("%d lines of Mermaid for %d nodes:\n%s", lines, n, Mermaid(g))
		}
	})
}

func checkXML(t interface{ Fatalf(string, ...any) }, text string) {
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if e, ok := token.(xml.StartElement); ok && (e.Name.Local == "script" || e.Name.Local == "style" || e.Name.Local == "a") {
			t.Fatalf("element %s in\n%s", e.Name.Local, text)
		}
	}
}

// A circle, which no table that the kernel takes has, is drawn somehow.
func TestCircleEnds(t *testing.T) {
	g := &Graph{}
	g.Add(Node{"a", []string{"a"}, Chain})
	g.Add(Node{"b", []string{"b"}, Chain})
	g.Connect(Edge{"a", "b", "", 1})
	g.Connect(Edge{"b", "a", "", 1})
	checkXML(t, SVG(g, "p"))
}
