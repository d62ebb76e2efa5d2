//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// maxTunnels bounds how often a packet is put into another one.
const maxTunnels = 4

// traveller goes one packet's way and writes down what it meets.
type traveller struct {
	*Wire
	packet WirePacket
	way    Way
}

// Follow says how the node sends a packet on, and what keeps it from going. The
// error is that of a question that could not be asked, such as one for a packet
// that comes in by a device which is not there.
func (w *Wire) Follow(p WirePacket) (Way, error) {
	if !p.Asked.IsValid() {
		p.Asked = p.Dst.Addr()
	}
	t := traveller{Wire: w, packet: p}
	if err := t.enter(); err != nil {
		return Way{}, err
	}
	t.table()
	t.depart()
	t.answer()
	t.bridge()
	return t.way, nil
}

func (t *traveller) stop(r Reason, format string, args ...any) {
	t.way.Findings = append(t.way.Findings, NewFinding(r, true, format, args...))
}

func (t *traveller) remark(r Reason, format string, args ...any) {
	t.way.Findings = append(t.way.Findings, NewFinding(r, false, format, args...))
}

// enter looks at the device that the packet comes in by.
func (t *traveller) enter() error {
	if t.packet.In == "" {
		return nil
	}
	link := t.links.named(t.packet.In)
	if link == nil {
		return fmt.Errorf("follow a packet that comes in by %s: this node has no such device: `ip link` lists those it has", t.packet.In)
	}
	d := t.links.device(link)
	t.way.In = &d
	t.checkUp(&d)
	return nil
}

func (t *traveller) checkUp(d *Device) {
	if why := d.down(); why != "" {
		t.stop(LinkDown, "the device %s (%s) %s", d.Name, d.Kind, why)
	}
}

// depart follows the packet, and what it is put into, to the last device.
func (t *traveller) depart() {
	route := t.firstRoute()
	hop := Hop{Src: t.packet.Src.Addr(), Dst: t.packet.Dst.Addr(), Route: route}
	for range maxTunnels {
		if hop.Route == nil {
			t.way.Hops = append(t.way.Hops, hop)
			return
		}
		if !hop.Src.IsValid() {
			hop.Src = hop.Route.Source
		}
		t.travel(&hop)
		t.way.Hops = append(t.way.Hops, hop)
		if hop.Tunnel == nil {
			return
		}
		hop = t.outer(hop.Tunnel)
	}
}

// question is that for the route of the packet itself.
func (t *traveller) question() lookup {
	p := &t.packet
	q := lookup{src: p.Src.Addr(), dst: p.Dst.Addr(), mark: p.Mark, protocol: p.Protocol, srcPort: p.Src.Port(), dstPort: p.Dst.Port()}
	if t.way.In != nil {
		q.in = t.way.In.Index
	}
	return q
}

// firstRoute returns the route of the packet itself; nil if it has none.
func (t *traveller) firstRoute() *Route {
	q := t.question()
	if q.in == 0 && t.packet.Asked != q.dst {
		if !t.source(&q) {
			return nil
		}
	}
	t.checkForwarding(q.dst)
	route, err := q.route()
	if err != nil {
		route = t.explain(q, err)
	}
	if route == nil {
		return nil
	}
	t.name(route)
	if q.in == 0 || !route.local() {
		t.checkDefault(route)
	}
	return route
}

// source finds the address that a packet made on the node gets before the rules
// rewrite where it goes: without a route to what was asked for it is not made.
func (t *traveller) source(q *lookup) bool {
	first := *q
	first.dst, first.mark = t.packet.Asked, 0
	route, err := first.route()
	switch {
	case errors.Is(err, unix.ENETUNREACH):
		t.stop(NoRoute, "the node's own processes have no route to %s, so no packet to it is made for the rules to rewrite", first.dst)
		return false
	case err != nil:
		t.explain(first, err)
		return false
	}
	t.name(route)
	t.way.First = route
	if !q.src.IsValid() {
		q.src = route.Source
	}
	return true
}

func (t *traveller) name(r *Route) {
	if link := t.links[r.index]; link != nil {
		r.Device = link.Attrs().Name
	}
}

// explain says why the kernel refuses a route, and returns the one that the packet
// would have but for where it comes from.
func (t *traveller) explain(q lookup, err error) *Route {
	plain := q
	plain.in, plain.src = 0, netip.Addr{}
	route, plainErr := plain.route()
	switch {
	case plainErr == nil && errors.Is(err, unix.EHOSTUNREACH) && t.forwardingIsOff():
		// said already
	case plainErr == nil && forged(err):
		t.explainMartian(q, route)
	case plainErr == nil:
		t.stop(RouteUnreachable, "the kernel refuses a route from %s to %s: %v", q.src, q.dst, err)
	default:
		t.explainRefusal(q.dst, plainErr)
	}
	return route
}

// forged reports whether an error is for a packet whose addresses cannot be true:
// EXDEV was that of rp_filter before Linux 6.14.
func forged(err error) bool { return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EXDEV) }

// explainRefusal says what an error means where all the routing tables were asked.
func (t *traveller) explainRefusal(dst netip.Addr, err error) {
	kinds := map[error]string{unix.EHOSTUNREACH: "unreachable", unix.EACCES: "prohibit", unix.EINVAL: "blackhole", unix.EAGAIN: "throw"}
	for errno, kind := range kinds {
		if errors.Is(err, errno) {
			t.stop(RouteUnreachable, "the route to %s is of type %s", dst, kind)
			return
		}
	}
	if !errors.Is(err, unix.ENETUNREACH) {
		t.stop(NoRoute, "the kernel has no route to %s: %v", dst, err)
		return
	}
	t.blame(dst, true)
	t.stop(NoRoute, "there is no route to %s", dst)
}

// blame names the devices whose routes are gone because they are down; see silenced.
func (t *traveller) blame(dst netip.Addr, any bool) {
	for _, d := range t.silenced(dst, any) {
		t.stop(LinkDown, "the device %s (%s) is down, and with it the routes by it are gone", d.Name, d.Kind)
	}
}

// checkDefault looks at a packet to a pod that leaves by the default route: where
// pods are reached by a tunnel, the network beyond does not know them.
func (t *traveller) checkDefault(r *Route) {
	dst := t.packet.Dst.Addr()
	if r.Prefix.Bits() != 0 || dst == t.packet.Asked && !contains(t.packet.Pods, dst) {
		return
	}
	const text = "no route leads to %s but the default one (%s)"
	tunnelled := contains(t.packet.Pods, dst) && t.hasOverlay()
	t.blame(dst, tunnelled)
	if tunnelled {
		t.stop(NoRoute, text+", and the network beyond does not know the pods that are reached by a tunnel", dst, r)
	} else {
		t.remark(NoRoute, text+"; that is right only if the network beyond knows where it is", dst, r)
	}
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// travel goes from the route of a hop to the last device that is known.
func (t *traveller) travel(h *Hop) {
	link := t.links[h.Route.index]
	if link == nil {
		return // it went since the devices were listed
	}
	d := t.links.device(link)
	h.Devices = append(h.Devices, d)
	if h.Route.local() {
		t.checkListener(h)
		return
	}
	t.checkUp(&d)
	if !needsNeighbour(link) {
		return
	}
	next := h.Route.Gateway
	if !next.IsValid() {
		next = h.Dst
	}
	h.Neighbour = t.neighbour(next, link)
	t.checkNeighbour(h, link)
	if h.Neighbour.mac != nil {
		t.descend(h, link)
	}
}

// checkListener looks who gets a packet that is for the node itself.
func (t *traveller) checkListener(h *Hop) {
	if len(t.way.Hops) == 0 && !listens(t.packet.Protocol, t.packet.Dst) {
		t.stop(NobodyListens, "%s is an address of this node, and nothing on it listens at %s %d", h.Dst, t.packet.Protocol, t.packet.Dst.Port())
	}
}

// checkNeighbour: without an entry the kernel asks when there is a packet to send.
// Through a tunnel that has nobody to ask, it asks in vain.
func (t *traveller) checkNeighbour(h *Hop, link netlink.Link) {
	n := h.Neighbour
	_, anybody := t.tunnelEnd(link.Attrs().Index, nil)
	switch {
	case n.unresolved():
		t.blamePorts(n, link)
		t.stop(NoNeighbour, "%s does not answer on %s: its neighbour entry is %s", n.Address, n.Device, n.State)
	case n.State == noEntry && link.Type() == "vxlan" && !anybody:
		t.stop(NoNeighbour, "%s has no neighbour entry for %s, and a question would reach nobody through this %s", n.Device, n.Address, link.Type())
	}
}

// blamePorts names the ports of a bridge that are down: the neighbour that does not
// answer may be behind one.
func (t *traveller) blamePorts(n *Neighbour, bridge netlink.Link) {
	for _, link := range t.ports(bridge) {
		if d := t.links.device(link); d.down() != "" {
			t.stop(LinkDown, "%s does not answer on %s, and the port %s (%s) of it %s", n.Address, n.Device, d.Name, d.Kind, d.down())
		}
	}
}

// ports returns those of a bridge; none if the device is no bridge.
func (t *traveller) ports(bridge netlink.Link) []netlink.Link {
	var out []netlink.Link
	for _, link := range t.links.inOrder() {
		if link.Attrs().MasterIndex == bridge.Attrs().Index {
			out = append(out, link)
		}
	}
	return out
}

// descend goes from a device to the one below it that takes the packet.
func (t *traveller) descend(h *Hop, link netlink.Link) {
	for range len(t.links) {
		switch l := link.(type) {
		case *netlink.Bridge:
			link = t.port(h, l)
		case *netlink.Vxlan:
			h.Tunnel = t.tunnel(h, l)
			return
		case *netlink.Vlan, *netlink.Macvlan, *netlink.IPVlan:
			link = t.links[l.Attrs().ParentIndex]
		default:
			return
		}
		if link == nil {
			return
		}
		d := t.links.device(link)
		h.Devices = append(h.Devices, d)
		t.checkUp(&d)
	}
}

// port returns the one behind which a bridge has the neighbour; nil if it does not
// know, and sends the packet out by all.
func (t *traveller) port(h *Hop, bridge *netlink.Bridge) netlink.Link {
	if port := t.bridgePort(bridge.Index, h.Neighbour.mac); port != 0 {
		return t.links[port]
	}
	for _, l := range t.ports(bridge) {
		h.Flooded = append(h.Flooded, l.Attrs().Name)
	}
	if len(h.Flooded) == 0 {
		t.stop(NoFDBEntry, "the bridge %s has no port, and so none behind which %s (%s) is", bridge.Name, h.Neighbour.Address, h.Neighbour.MAC)
	}
	return nil
}

// checkForwarding: only packets that are made here or end here need none.
func (t *traveller) checkForwarding(dst netip.Addr) {
	if t.way.In == nil || t.isLocal(dst) {
		return
	}
	if name, off := t.forwarding(); off {
		t.stop(ForwardingOff, "%s is 0, so the node does not forward what comes in by %s", name, t.way.In.Name)
	}
}

// isLocal reports whether the node itself has an address.
func (t *traveller) isLocal(a netip.Addr) bool {
	r, err := lookup{dst: a}.ask(unix.RTM_F_LOOKUP_TABLE)
	return err == nil && r.local()
}

// Family returns the family whose neighbours and routes these are.
func (w *Wire) Family() rules.Family { return w.family }
