package picture

import "slices"

// Measures, in pixels. Letters of a monospace font are 0.6 of their size wide.
const (
	fontSize   = 12
	letter     = 7.3
	lineHeight = 16
	padding    = 8
	rowGap     = 14
	columnGap  = 110 // room for the labels of arrows
	margin     = 16
	titleRoom  = 28
)

// box is where a node stands.
type box struct {
	node          *Node
	x, y          float64 // of its upper left corner
	width, height float64
	column        int
}

func (b *box) left() (x, y float64)  { return b.x, b.y + b.height/2 }
func (b *box) right() (x, y float64) { return b.x + b.width, b.y + b.height/2 }

// layout places every node: in the column behind all nodes that lead to it, and in
// rows so that those that lead on stand beside the middle of what they lead to.
func layout(g *Graph) (boxes []*box, width, height float64) {
	l := layouter{graph: g, boxes: map[string]*box{}}
	for i := range g.Nodes {
		b := newBox(&g.Nodes[i])
		l.boxes[b.node.ID] = b
		boxes = append(boxes, b)
	}
	l.columns()
	width = l.spread(boxes)
	l.bottom = margin + titleRoom
	for _, b := range boxes {
		if len(l.into(b.node.ID)) == 0 {
			l.place(b)
		}
	}
	return boxes, width, l.bottom - rowGap + margin
}

func newBox(n *Node) *box {
	longest := 0
	for _, line := range n.Lines {
		longest = max(longest, len([]rune(line)))
	}
	return &box{node: n, width: float64(longest)*letter + 2*padding, height: float64(len(n.Lines))*lineHeight + padding}
}

type layouter struct {
	graph  *Graph
	boxes  map[string]*box
	placed []*box  // in the order in which they got their rows
	bottom float64 // where the next row begins
}

func (l *layouter) into(id string) []Edge {
	return slices.DeleteFunc(slices.Clone(l.graph.Edges), func(e Edge) bool { return e.To != id })
}

func (l *layouter) outOf(id string) []Edge {
	return slices.DeleteFunc(slices.Clone(l.graph.Edges), func(e Edge) bool { return e.From != id })
}

// columns puts each node behind those that lead to it. As many rounds as there are
// nodes do for any graph without a circle, and end in one with.
func (l *layouter) columns() {
	for range l.graph.Nodes {
		moved := false
		for _, e := range l.graph.Edges {
			from, to := l.boxes[e.From], l.boxes[e.To]
			if from != nil && to != nil && to.column <= from.column && from.column < len(l.graph.Nodes) {
				to.column, moved = from.column+1, true
			}
		}
		if !moved {
			return
		}
	}
}

// spread gives each column its x and returns the width of all.
func (l *layouter) spread(boxes []*box) float64 {
	widest := map[int]float64{}
	last := 0
	for _, b := range boxes {
		widest[b.column] = max(widest[b.column], b.width)
		last = max(last, b.column)
	}
	x := float64(margin)
	for column := 0; column <= last; column++ {
		for _, b := range boxes {
			if b.column == column {
				b.x = x
			}
		}
		if widest[column] > 0 {
			x += widest[column] + columnGap
		}
	}
	return x - columnGap + margin
}

// place gives a node its y, after all that it leads to has one: it stands beside the
// middle of that.
func (l *layouter) place(b *box) {
	top, before := l.bottom, len(l.placed)
	l.placed = append(l.placed, b)
	var next []*box
	for _, e := range l.outOf(b.node.ID) {
		if to := l.boxes[e.To]; to != nil && !slices.Contains(l.placed, to) {
			l.place(to)
			next = append(next, to)
		}
	}
	if len(next) == 0 {
		b.y = top
		l.bottom = top + b.height + rowGap
		return
	}
	if lack := b.height - (l.bottom - rowGap - top); lack > 0 {
		for _, o := range l.placed[before+1:] {
			o.y += lack / 2
		}
		l.bottom += lack
	}
	first, last := next[0], next[len(next)-1]
	b.y = (first.y+first.height/2+last.y+last.height/2)/2 - b.height/2
	b.y = min(max(b.y, top), l.bottom-rowGap-b.height)
}
