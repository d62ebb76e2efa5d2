package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// wireSection is what becomes of a packet behind the rules, on this node.
type wireSection struct {
	Ways        []wireWay           `json:"ways,omitempty"`        // of each end at which the rules let it through
	Connections []kernel.Connection `json:"connections,omitempty"` // that conntrack knows from its source to its destination
	Tries       []wireTry           `json:"tries,omitempty"`       // of --try
}

// wireWay is the way to one end.
type wireWay struct {
	Dst         netip.AddrPort `json:"to"`
	Masqueraded bool           `json:"masqueraded"`
	Share       float64        `json:"share"` // of all packets
	kernel.Way
}

// stops reports whether packets that end so are stopped behind the rules.
func (s *wireSection) stops(e *rules.End) bool {
	if s == nil {
		return false
	}
	i := slices.IndexFunc(s.Ways, func(w wireWay) bool { return w.Dst == e.Dst && w.Masqueraded == e.Masqueraded })
	return i >= 0 && s.Ways[i].Stopped() != nil
}

// follow looks at the way behind the rules, if they are those of this node.
func (t *tracer) follow(ctx context.Context) error {
	if !t.source.live() {
		return nil
	}
	w, err := kernel.NewWire(rules.FamilyOf(t.report.To.Addr.Addr()))
	if err != nil {
		return fmt.Errorf("look at the node's network: %w", err)
	}
	section := &wireSection{}
	for i := range t.report.Ends {
		e := &t.report.Ends[i]
		if !e.Arrives() || e.Unsure {
			continue
		}
		way, err := w.Follow(t.wirePacket(w, e))
		if err != nil {
			return err
		}
		if err := t.followOuter(ctx, &way); err != nil {
			return err
		}
		section.Ways = append(section.Ways, wireWay{e.Dst, e.Masqueraded, e.Probability, way})
	}
	t.report.Wire = section
	if t.tries {
		t.tryEndpoints(ctx)
	}
	return t.connections()
}

// wirePacket is the packet as the rules let it go to one of its ends. By which device
// it comes in is a guess, where it is not said: the one that leads back.
func (t *tracer) wirePacket(w *kernel.Wire, e *rules.End) kernel.WirePacket {
	sent := t.packet()
	p := kernel.WirePacket{
		Protocol: sent.Protocol, Src: netip.AddrPortFrom(sent.Src.Addr(), 0), Dst: e.Dst, Asked: sent.Dst.Addr(), In: sent.In, Mark: e.Mark, Masked: e.Masqueraded,
	}
	if sent.FromNode && sent.Src.Addr().IsUnspecified() {
		p.Src = netip.AddrPort{}
	}
	if !sent.FromNode && p.In == "" {
		p.In = w.DeviceTo(sent.Src.Addr())
	}
	if pods := t.options.config(w.Family()).PodTraffic.CIDR; pods.IsValid() {
		p.Pods = []netip.Prefix{pods}
	}
	return p
}

// followOuter sends the packets of tunnels through the rules, which hold for them as
// for any that the node makes.
func (t *tracer) followOuter(ctx context.Context, way *kernel.Way) error {
	for i := 1; i < len(way.Hops); i++ {
		h, tunnel := &way.Hops[i], way.Hops[i-1].Tunnel
		layers, err := t.layersOf(ctx, rules.FamilyOf(h.Dst))
		if err != nil {
			return err
		}
		journey, err := rules.Trace(layers, rules.Host{Addresses: t.nodeIPs}, rules.Packet{
			FromNode: true, Protocol: rules.UDP, Src: netip.AddrPortFrom(h.Src, 0), Dst: netip.AddrPortFrom(h.Dst, tunnel.Port),
		})
		if err != nil {
			return err
		}
		for _, e := range journey.Ends {
			if !e.Arrives() {
				way.Findings = append(way.Findings, t.outerRefused(tunnel, h, journey, &e))
			}
		}
	}
	return nil
}

// layersOf returns the rules of a family: those of the packet's own are there.
func (t *tracer) layersOf(ctx context.Context, f rules.Family) ([]rules.Layer, error) {
	if f == rules.FamilyOf(t.report.To.Addr.Addr()) {
		return t.layers, nil
	}
	layers, _, err := t.source.layers(ctx, f)
	return layers, err
}

// outerRefused says which rule stops the packet of a tunnel.
func (t *tracer) outerRefused(tunnel *kernel.Tunnel, h *kernel.Hop, journey *rules.Journey, e *rules.End) kernel.Finding {
	by, look := e.Where+" "+verb(e.Verdict)+" it", []string(nil)
	if e.By != nil {
		by += ": -A " + e.By.Chain + " " + e.By.Text
		look = []string{t.listCommand(layerOf(journey.Passages, e.By), e.By.Table, e.By.Chain)}
	}
	f := kernel.NewFinding(kernel.TunnelDropped, true, "it is put into a %s packet from %s to %s, UDP port %d, and %s", tunnel.Kind, h.Src, h.Dst, tunnel.Port, by)
	f.Look = look
	return f
}

// connections asks conntrack what it knows of this source and destination.
func (t *tracer) connections() error {
	r := t.report
	src := netip.AddrPort{}
	if !r.From.Addr.IsUnspecified() {
		src = netip.AddrPortFrom(r.From.Addr, 0)
	}
	found, err := kernel.NewFlows(rules.FamilyOf(r.To.Addr.Addr())).Connections(r.Protocol, src, r.To.Addr)
	if err != nil {
		r.Remarks = append(r.Remarks, err.Error())
		return nil
	}
	r.Wire.Connections = found
	return nil
}

// explainWire takes over what was found behind the rules: reasons where it stops the
// packet, remarks otherwise.
func (t *tracer) explainWire() {
	r := t.report
	if r.Wire == nil {
		return
	}
	for i := range r.Wire.Ways {
		for _, f := range r.Wire.Ways[i].Findings {
			if f.Stops {
				r.because(string(f.Reason), f.Text+".", f.Look...)
			} else {
				r.Remarks = append(r.Remarks, f.Text)
			}
		}
	}
	t.explainStale()
	t.explainTries()
}

// leadsTo reports whether a new connection may get to a server.
func (r *traceReport) leadsTo(server netip.AddrPort) bool {
	return slices.ContainsFunc(r.Ends, func(e rules.End) bool { return e.Arrives() && e.Dst == server })
}

// explainStale names flows that lead elsewhere than new ones do, but for those to an
// endpoint that still serves what it has. A client that sends from the same port again
// goes on with its flow; one of TCP does not.
func (t *tracer) explainStale() {
	r := t.report
	for _, c := range r.Wire.Connections {
		if r.Protocol == rules.TCP || r.leadsTo(c.Server) || t.serves(&c) {
			continue
		}
		where := "lead to " + c.Server.String() + ", where new ones do not go"
		if c.Server == c.Dst {
			where = "are not rewritten, as there were no rules when they began"
		}
		r.because(string(kernel.StaleConntrack), fmt.Sprintf("packets from %s %s: conntrack keeps the flow as long as they come, and %d seconds more.", c.Src, where, c.Seconds),
			fmt.Sprintf("conntrack -L -p %s --orig-src %s --orig-dst %s", r.Protocol, c.Src.Addr(), c.Dst.Addr()),
			fmt.Sprintf("conntrack -D -p %s --orig-src %s --orig-dst %s --orig-port-src %d, which ends it", r.Protocol, c.Src.Addr(), c.Dst.Addr(), c.Src.Port()))
		r.but = true
	}
}

// serves reports whether objects say that a connection leads to an endpoint which
// answers, though it may get no new ones: it terminates, or hints leave it to others.
func (t *tracer) serves(c *kernel.Connection) bool {
	if t.snap == nil {
		return false
	}
	served := rules.NewFrontends(t.snap, t.options.config(rules.FamilyOf(c.Dst.Addr())))
	return served.Serves(rules.Flow{Protocol: t.report.Protocol, Dst: c.Dst, From: c.Server, Local: t.here(c.Dst.Addr())})
}
