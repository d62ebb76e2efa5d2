package main

import (
	"fmt"
	"net/netip"
	"strings"

	"svcproxy/pkg/kernel"
)

// lines says for people how the packet goes on, for the first few ends.
func (s *wireSection) lines() []string {
	var out []string
	const few = 4
	for i := range s.Ways[:min(len(s.Ways), few)] {
		w := &s.Ways[i]
		out = append(out, fmt.Sprintf("%s  to %s", percent(w.Share), w.Dst))
		out = append(out, indent(w.lines())...)
	}
	if more := len(s.Ways) - few; more > 0 {
		out = append(out, fmt.Sprintf("and in %d more ways; -o json has all", more))
	}
	out = append(out, connectionLines(s.Connections)...)
	for _, try := range s.Tries {
		out = append(out, labelled("tried", fmt.Sprintf("%s: %s", try.Dst, try.Outcome)))
	}
	return out
}

func indent(lines []string) []string {
	for i := range lines {
		lines[i] = "  " + lines[i]
	}
	return lines
}

func (w *wireWay) lines() []string {
	var out []string
	if w.In != nil {
		out = append(out, labelled("comes in", describeDevice(w.In)))
	}
	if w.First != nil {
		out = append(out, labelled("routed", w.First.String()+", before the destination is rewritten"))
	}
	depth := 0
	for i := range w.Hops {
		lines := hopLines(&w.Hops[i])
		for range depth {
			lines = indent(lines)
		}
		out = append(out, lines...)
		depth++
	}
	if w.Back != nil && w.In != nil {
		out = append(out, labelled("answer", w.Back.String()))
	}
	return out
}

func labelled(name, text string) string { return fmt.Sprintf("%-10s %s", name, text) }

func hopLines(h *kernel.Hop) []string {
	var out []string
	if h.Route == nil {
		return []string{labelled("route", "none to "+h.Dst.String())}
	}
	out = append(out, labelled("route", describeRoute(h.Route)))
	if n := h.Neighbour; n != nil {
		out = append(out, labelled("neighbour", describeNeighbour(n)))
	}
	for i := range h.Devices {
		out = append(out, labelled("device", describeDevice(&h.Devices[i])))
	}
	if len(h.Flooded) > 0 {
		out = append(out, labelled("", "it has not learned where that is, and sends it out by all ports: "+strings.Join(h.Flooded, ", ")))
	}
	if t := h.Tunnel; t != nil {
		out = append(out, labelled(t.Kind, fmt.Sprintf("VNI %d, in a packet from %s to %s, UDP port %d", t.VNI, addressOr(t.Local, "this node"), t.Remote, t.Port)))
	}
	return out
}

func describeNeighbour(n *kernel.Neighbour) string {
	switch {
	case n.MAC != "":
		return fmt.Sprintf("%s is %s (%s)", n.Address, n.MAC, n.State)
	case n.State == "none":
		return fmt.Sprintf("%s is not known; the kernel asks when there is a packet", n.Address)
	}
	return fmt.Sprintf("%s is not known (%s)", n.Address, n.State)
}

func addressOr(a netip.Addr, otherwise string) string {
	if a.IsValid() {
		return a.String()
	}
	return otherwise
}

func describeRoute(r *kernel.Route) string {
	text := r.String()
	if r.Paths > 1 {
		text += fmt.Sprintf(", one of %d next hops", r.Paths)
	}
	const main, local = 254, 255 // tables that are not worth a word
	if r.Table != main && r.Table != local {
		text += fmt.Sprintf(", table %d", r.Table)
	}
	return text
}

func describeDevice(d *kernel.Device) string {
	state := d.State
	if d.Up && (state == "up" || state == "unknown") {
		state = "up"
	}
	text := fmt.Sprintf("%s (%s, %s)", d.Name, d.Kind, state)
	switch p := d.Peer; {
	case p == nil:
	case p.Namespace != "":
		text += ", its other end in namespace " + p.Namespace
	case p.NamespaceID != nil:
		text += fmt.Sprintf(", its other end in another namespace (interface %d there)", p.Index)
	case p.Name != "":
		text += ", its other end " + p.Name
	}
	return text
}

// connectionLines says what conntrack knows, for the first few connections.
func connectionLines(all []kernel.Connection) []string {
	const few = 5
	var out []string
	for i := range all[:min(len(all), few)] {
		c := &all[i]
		text := fmt.Sprintf("from %s to %s", c.Src, c.Server)
		if c.Client != c.Src {
			text += fmt.Sprintf(", as %s", c.Client)
		}
		if c.State != "" {
			text += ", " + c.State
		}
		if !c.Answered {
			text += ", not answered"
		}
		out = append(out, labelled("conntrack", text))
	}
	if more := len(all) - few; more > 0 {
		out = append(out, labelled("", fmt.Sprintf("and %d more connections", more)))
	}
	return out
}
