package main

import (
	"bytes"
	"fmt"
	"math"

	"svcproxy/hack/internal/proxies"
)

// panel is one diagram of cost against the number of Services; both axes are
// logarithmic.
type panel struct {
	measure measure
	title   string
	scale   float64
}

const (
	panelWidth, panelHeight = 460, 300
	marginLeft, marginTop   = 60, 40
	plotWidth, plotHeight   = panelWidth - marginLeft - 20, panelHeight - marginTop - 40
	legendHeight            = 36
)

// plot draws the diagrams as SVG.
func plot(r results) []byte {
	panels := []panel{
		{change, "one endpoint changed, ms", 1e3},
		{changeCPU, "CPU of one change, ms", 1e3},
		{firstSync, "first sync, s", 1},
		{connectLast, "TCP connect, last Service, µs", 1e6},
	}
	var w bytes.Buffer
	height := legendHeight + (len(panels)+1)/2*panelHeight
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", 2*panelWidth, height)
	fmt.Fprintf(&w, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	for i, name := range proxies.Names() {
		x := 20 + i*180
		fmt.Fprintf(&w, `<path d="M%d 18h20" %s/><text x="%d" y="22" font-size="11">%s</text>`+"\n", x-10, stroke(name), x+14, name)
	}
	for i, p := range panels {
		fmt.Fprintf(&w, `<g transform="translate(%d %d)">`+"\n", i%2*panelWidth, legendHeight+i/2*panelHeight)
		p.draw(&w, r)
		fmt.Fprintln(&w, `</g>`)
	}
	fmt.Fprintln(&w, `</svg>`)
	return w.Bytes()
}

// stroke is the line of a proxy: svcproxy's are thick, legacy is dashed.
func stroke(name string) string {
	color := map[string]string{
		proxies.SvcproxyNFT: "#0072b2", proxies.SvcproxyLegacy: "#0072b2", proxies.KubeProxyNFT: "#d55e00", proxies.KubeProxyLegacy: "#d55e00", proxies.KubeProxyNFTables: "#009e73",
	}[name]
	k, width, dash := proxies.KindOf(name), 1.5, ""
	if k.Ours {
		width = 3
	}
	if k.Backend == "legacy" {
		dash = ` stroke-dasharray="6 4"`
	}
	return fmt.Sprintf(`fill="none" stroke="%s" stroke-width="%g"%s`, color, width, dash)
}

// axis maps values from lo to hi, powers of ten, to pixels.
type axis struct {
	lo, hi float64
	from   float64
	length float64
}

func newAxis(values []float64, from, length float64) axis {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		lo, hi = min(lo, math.Floor(math.Log10(v))), max(hi, math.Ceil(math.Log10(v)))
	}
	return axis{lo, max(hi, lo+1), from, length}
}

func (a axis) at(v float64) float64 { return a.from + (math.Log10(v)-a.lo)/(a.hi-a.lo)*a.length }

func (p panel) draw(w *bytes.Buffer, r results) {
	var xs, ys []float64
	for k, s := range r {
		if v := s.median() * p.scale; k.measure == p.measure && k.size.endpoints == 2 && v > 0 {
			xs, ys = append(xs, float64(k.size.services)), append(ys, v)
		}
	}
	fmt.Fprintf(w, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", marginLeft, marginTop-12, p.title)
	if len(xs) == 0 {
		return
	}
	x := newAxis(xs, marginLeft, plotWidth)
	y := newAxis(ys, marginTop+plotHeight, -plotHeight)
	for d := x.lo; d <= x.hi; d++ {
		at := x.at(math.Pow(10, d))
		fmt.Fprintf(w, `<path d="M%.0f %dv%d" stroke="#ddd"/><text x="%.0f" y="%d" text-anchor="middle">%g</text>`+"\n",
			at, marginTop, plotHeight, at, marginTop+plotHeight+16, math.Pow(10, d))
	}
	for d := y.lo; d <= y.hi; d++ {
		at := y.at(math.Pow(10, d))
		fmt.Fprintf(w, `<path d="M%d %.0fh%d" stroke="#ddd"/><text x="%d" y="%.0f" text-anchor="end">%g</text>`+"\n",
			marginLeft, at, plotWidth, marginLeft-6, at+4, math.Pow(10, d))
	}
	fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="middle">Services</text>`+"\n", marginLeft+plotWidth/2, marginTop+plotHeight+32)
	for _, name := range proxies.Names() {
		p.line(w, r, name, x, y)
	}
}

// line draws one proxy; where it was given up, the line ends.
func (p panel) line(w *bytes.Buffer, r results, name string, x, y axis) {
	path, verb := "", "M"
	for _, s := range r.sizes() {
		v := r[key{p.measure, name, s}]
		if v == nil || v.over || s.endpoints != 2 || v.median() <= 0 {
			continue
		}
		at, value := x.at(float64(s.services)), y.at(v.median()*p.scale)
		path += fmt.Sprintf("%s%.1f %.1f", verb, at, value)
		fmt.Fprintf(w, `<circle cx="%.1f" cy="%.1f" r="2.5"/>`+"\n", at, value)
		verb = "L"
	}
	if path != "" {
		fmt.Fprintf(w, `<path d="%s" %s/>`+"\n", path, stroke(name))
	}
}
