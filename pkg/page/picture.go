package page

import (
	"fmt"
	"math"
	"strings"

	"svcproxy/pkg/status"
)

// Picture is the way of packets to one port in one family, from left to right: the
// chain that all packets meet, the port's addresses, the chains that these lead to,
// and its endpoints. Sizes are in pixels.
type Picture struct {
	Title, Description string
	Width, Height      int
	Boxes              []Box
	Lines              []Line
}

// Box is a chain, an address or an endpoint.
type Box struct {
	Kind       string // chain, address, endpoint, unused, refused: the class of its style
	X, Y, W, H int
	Text       []Text
}

// Text is a line of text in a box.
type Text struct {
	X, Y  int
	Words string
	Class string // head: what the box is; empty: a detail
}

// Line leads from one box to another.
type Line struct {
	Path   string // of SVG
	Weight string // its width
	X, Y   int    // of the label's end
	Label  string // the part of packets that go there; empty: all
}

const (
	boxGap    = 14 // between boxes in a column
	columnGap = 60 // between columns, for lines and their labels
	textLine  = 17
	boxPad    = 9
	charWidth = 73 // of the font of pictures, in tenths of a pixel
	margin    = 2
)

// drawnEndpoints bounds the endpoints in a picture; the last one stands for all others.
const drawnEndpoints = 12

// vertex is a box in the making.
type vertex struct {
	id     string
	kind   string
	column int
	lines  []string // the first one is the head
}

// edge leads from one vertex to another. share is what of the packets there takes
// it; below 0: all.
type edge struct {
	from, to string
	share    float64
	label    string
}

// drawing is a picture before anything has its place.
type drawing struct {
	vertices []vertex
	edges    []edge
}

// Draw returns the picture of one family of a port. It depends on nothing else.
func Draw(s *status.Service, p *status.Port, family string) *Picture {
	d := &drawing{}
	d.entries(s, p, family)
	for i := range p.Balances {
		if p.Balances[i].Family == family {
			d.balance(p, &p.Balances[i])
		}
	}
	d.unused(p, family)
	out := d.layout()
	out.Title = fmt.Sprintf("%s %s over %s", s.ID(), p.Title(), family)
	out.Description = d.describe()
	return out
}

// add adds a vertex unless it is there.
func (d *drawing) add(v vertex) string {
	for i := range d.vertices {
		if d.vertices[i].id == v.id {
			return v.id
		}
	}
	d.vertices = append(d.vertices, v)
	return v.id
}

func (d *drawing) link(from, to string, share float64, label string) {
	for _, e := range d.edges {
		if e.from == from && e.to == to {
			return
		}
	}
	d.edges = append(d.edges, edge{from, to, share, label})
}

// Columns.
const (
	columnRoot = iota
	columnAddress
	columnFirewall
	columnExternal
	columnBalance
	columnEndpoint
	columns
)

// entries adds the addresses, and the chains between them and those that balance.
func (d *drawing) entries(s *status.Service, p *status.Port, family string) {
	for _, a := range p.Addresses {
		if a.Family != family {
			continue
		}
		root, shown := "KUBE-SERVICES", a.Address
		if a.Role == "NodePort" {
			root, shown = "KUBE-NODEPORTS", a.Address+" on the node"
		}
		from := d.add(vertex{root, "chain", columnRoot, []string{root, "all new connections"}})
		kind, lines := "address", []string{shown, a.Role}
		switch {
		case a.Chain == "":
			kind, lines = "refused", append(lines, "refused")
		case a.Refused == status.RefusedOutside:
			lines = append(lines, "refused from outside")
		}
		id := d.add(vertex{"address " + a.Address, kind, columnAddress, lines})
		d.link(from, id, -1, "")
		if a.Chain != "" {
			d.lead(s, p, family, id, a.Chain)
		}
	}
}

// lead goes on from a vertex to a chain.
func (d *drawing) lead(s *status.Service, p *status.Port, family, from, chain string) {
	column, what := columnBalance, ""
	switch {
	case strings.HasPrefix(chain, "KUBE-FW-"):
		column, what = columnFirewall, "source ranges"
	case strings.HasPrefix(chain, "KUBE-EXT-"):
		column, what = columnExternal, "from outside"
	default:
		d.link(from, chain, -1, "")
		return
	}
	id := d.add(vertex{chain, "chain", column, []string{chain, what}})
	d.link(from, id, -1, "")
	if column == columnFirewall {
		d.lead(s, p, family, id, "KUBE-EXT-"+strings.TrimPrefix(chain, "KUBE-FW-"))
		return
	}
	for _, b := range p.Balances {
		if b.Family != family {
			continue
		}
		local := b.Policy == status.PolicyLocal
		switch {
		case s.External != status.PolicyLocal && !local:
			d.link(id, b.Chain, -1, "")
		case s.External == status.PolicyLocal && local:
			d.link(id, b.Chain, -1, "outside")
		case s.External == status.PolicyLocal:
			d.link(id, b.Chain, -1, "pods, node")
		}
	}
}

// balance adds a chain that balances, and its endpoints.
func (d *drawing) balance(p *status.Port, b *status.Balance) {
	lines := []string{b.Chain, fmt.Sprintf("policy %s, 1 of %d", b.Policy, b.Endpoints)}
	if b.Connections != nil {
		lines = append(lines, fmt.Sprintf("%d connections", *b.Connections))
	}
	if b.Absent {
		lines = append(lines, "not in the kernel")
	}
	id := d.add(vertex{b.Chain, "chain", columnBalance, lines})
	drawn, rest, restShare := 0, 0, 0.0
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		share := shareOf(e, b)
		switch {
		case share == nil:
		case drawn < drawnEndpoints-1 || b.Endpoints <= drawnEndpoints:
			drawn++
			d.link(id, d.endpoint(e), share.Wanted, status.Percent(share.Wanted))
		default:
			rest, restShare = rest+1, restShare+share.Wanted
		}
	}
	if rest > 0 {
		to := d.add(vertex{"rest " + b.Chain, "endpoint", columnEndpoint, []string{fmt.Sprintf("%d more endpoints", rest), "in the table below"}})
		d.link(id, to, restShare, status.Percent(restShare))
	}
}

func shareOf(e *status.Endpoint, b *status.Balance) *status.Share {
	if e.Family != b.Family {
		return nil
	}
	for i := range e.Shares {
		if e.Shares[i].Policy == b.Policy {
			return &e.Shares[i]
		}
	}
	return nil
}

func (d *drawing) endpoint(e *status.Endpoint) string {
	lines := []string{e.Address, e.Chain}
	if where := endpointWords(e); where != "" {
		lines = append(lines, where)
	}
	for _, s := range e.Shares {
		if s.Measured == nil {
			continue
		}
		words := "measured " + status.Percent(*s.Measured) + ", " + status.Number(s.Connections) + " connections"
		if len(e.Shares) > 1 {
			words = s.Policy + ": " + words
		}
		lines = append(lines, words)
	}
	return d.add(vertex{"endpoint " + e.Address, "endpoint", columnEndpoint, lines})
}

func endpointWords(e *status.Endpoint) string {
	var words []string
	if e.State != status.Ready && e.State != "" {
		words = append(words, e.State)
	}
	if e.Node != "" {
		words = append(words, "on "+e.Node)
	}
	return strings.Join(words, ", ")
}

// unused adds the endpoints that this node sends nothing to, as far as there is room.
func (d *drawing) unused(p *status.Port, family string) {
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		if e.Family != family || len(e.Shares) > 0 {
			continue
		}
		if d.count(columnEndpoint) >= drawnEndpoints {
			return
		}
		why := "not used from this node"
		if e.State == status.Unready {
			why = "not ready"
		}
		lines := []string{e.Address, why}
		if e.Node != "" {
			lines = append(lines, "on "+e.Node)
		}
		d.add(vertex{"endpoint " + e.Address, "unused", columnEndpoint, lines})
	}
}

func (d *drawing) count(column int) int {
	n := 0
	for i := range d.vertices {
		if d.vertices[i].column == column {
			n++
		}
	}
	return n
}

// layout gives everything its place: columns beside each other, each one's boxes
// below each other and in the middle of the height.
func (d *drawing) layout() *Picture {
	out := &Picture{}
	place := map[string]Box{}
	var widths, heights [columns]int
	for i := range d.vertices {
		v := &d.vertices[i]
		b := v.box()
		widths[v.column] = max(widths[v.column], b.W)
		heights[v.column] += b.H + boxGap
		out.Height = max(out.Height, heights[v.column]-boxGap)
		place[v.id] = b
	}
	x := margin
	for column := range columns {
		if widths[column] == 0 {
			continue
		}
		y := margin + (out.Height-heights[column]+boxGap)/2
		for i := range d.vertices {
			v := &d.vertices[i]
			if v.column != column {
				continue
			}
			b := place[v.id]
			b.X, b.Y, b.W = x, y, widths[column]
			b.write(v.lines)
			y += b.H + boxGap
			place[v.id] = b
			out.Boxes = append(out.Boxes, b)
		}
		x += widths[column] + columnGap
	}
	out.Width, out.Height = x-columnGap+margin, out.Height+2*margin
	out.Lines = d.lines(place)
	return out
}

// box returns the vertex's box without a place.
func (v *vertex) box() Box {
	longest := 0
	for _, l := range v.lines {
		longest = max(longest, len(l))
	}
	return Box{Kind: v.kind, W: longest*charWidth/10 + 2*boxPad, H: len(v.lines)*textLine + boxPad + 2}
}

func (b *Box) write(lines []string) {
	for i, l := range lines {
		t := Text{X: b.X + boxPad, Y: b.Y + boxPad/2 + (i+1)*textLine - 3, Words: l}
		if i == 0 {
			t.Class = "head"
		}
		b.Text = append(b.Text, t)
	}
}

// lines draws the edges between boxes. Of several that end at one box, each has an
// end of its own.
func (d *drawing) lines(place map[string]Box) []Line {
	ends, used := map[string]int{}, map[string]int{}
	for _, e := range d.edges {
		ends[e.to]++
	}
	var out []Line
	for _, e := range d.edges {
		from, ok := place[e.from]
		to, there := place[e.to]
		if !ok || !there {
			continue
		}
		used[e.to]++
		x1, y1 := from.X+from.W, from.Y+from.H/2
		x2, y2 := to.X, to.Y+to.H*used[e.to]/(ends[e.to]+1)
		bend := columnGap / 2
		out = append(out, Line{
			Path:   fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x2-bend-8, y1, x2-bend, y2, x2, y2),
			Weight: weight(e.share), X: x2 - 4, Y: y2 - 5, Label: e.label,
		})
	}
	return out
}

// weight is the width of a line for a share of the packets.
func weight(share float64) string {
	if share < 0 {
		share = 1
	}
	return fmt.Sprintf("%.1f", 1+3*math.Sqrt(share))
}

// describe says in words what the picture shows.
func (d *drawing) describe() string {
	var words []string
	for _, e := range d.edges {
		text := e.from + " to " + e.to
		if e.label != "" {
			text += " (" + e.label + ")"
		}
		words = append(words, text)
	}
	return strings.Join(words, "; ")
}
