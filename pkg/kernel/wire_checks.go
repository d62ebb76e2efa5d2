//go:build linux

package kernel

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// setting reads a sysctl and writes down that the way depends on it.
func (t *traveller) setting(path string) (value int, there bool) {
	text, err := readSysctl(t.sysctls, path)
	s := Setting{Name: sysctlName(path), Value: text}
	if !slices.Contains(t.way.Settings, s) {
		t.way.Settings = append(t.way.Settings, s)
	}
	value, convErr := strconv.Atoi(text)
	return value, cmp.Or(err, convErr) == nil
}

// sysctlName writes a path below net as sysctl takes it: a dot in the name of a
// device becomes a slash.
func sysctlName(path string) string {
	return "net." + strings.NewReplacer("/", ".", ".", "/").Replace(path)
}

// forwarding returns the sysctl that keeps the node from forwarding, if one does.
func (t *traveller) forwarding() (name string, off bool) {
	paths := []string{"ipv4/ip_forward", "ipv4/conf/" + t.way.In.Name + "/forwarding"}
	if t.family == rules.IPv6 {
		paths = []string{"ipv6/conf/all/forwarding"}
	}
	for _, path := range paths {
		if v, ok := t.setting(path); ok && v == 0 {
			name, off = cmp.Or(name, sysctlName(path)), true
		}
	}
	if t.family == rules.IPv4 && off {
		v, ok := t.setting(paths[1]) // which is the one that counts
		off = ok && v == 0
	}
	return name, off
}

func (t *traveller) forwardingIsOff() bool {
	if t.way.In == nil {
		return false
	}
	_, off := t.forwarding()
	return off
}

// effective is a setting of a device where the larger of its own and that of all
// counts.
func (t *traveller) effective(name, device string) int {
	all, _ := t.setting("ipv4/conf/all/" + name)
	own, _ := t.setting("ipv4/conf/" + device + "/" + name)
	return max(all, own)
}

// explainRPFilter says whether and why rp_filter takes the source of a packet that
// comes in by a device for forged. It is the loose one (2) that looks only whether
// there is any way back.
func (t *traveller) explainRPFilter(device string, src netip.Addr) bool {
	if t.family == rules.IPv6 {
		return false
	}
	mode := t.effective("rp_filter", device)
	if mode == 0 {
		return false
	}
	back, err := lookup{dst: src}.route()
	if err != nil {
		t.stop(RPFilter, "rp_filter of %s is %d and there is no route back to %s: what comes in from there is dropped", device, mode, src)
		return true
	}
	t.name(back)
	if back.Device == device {
		return false
	}
	t.stop(RPFilter, "rp_filter of %s is %d, and the way back to %s leaves by %s (%s): what comes in from there by %s is dropped", device, mode, src, back.Device, back, device)
	return true
}

// explainMartian says which address the kernel does not take in that place.
func (t *traveller) explainMartian(q lookup, route *Route) {
	t.name(route)
	device := route.Device
	if t.way.In != nil {
		device = t.way.In.Name
	}
	switch {
	case q.src.IsLoopback() || q.dst.IsLoopback():
		t.effective("route_localnet", device)
		t.stop(Martian, "%s to %s: a loopback address does not cross %s unless net.ipv4.conf.all.route_localnet is 1", q.src, q.dst, device)
	case t.way.In != nil && t.isLocal(q.src):
		t.stop(Martian, "%s is an address of this node, so no packet from it may come in by %s", q.src, device)
	case t.way.In == nil && !t.isLocal(q.src):
		t.stop(Martian, "%s is no address of this node, so no packet from it is made here", q.src)
	case t.way.In != nil && t.explainRPFilter(device, q.src):
	default:
		t.stop(Martian, "the kernel takes no packet from %s to %s by %s", q.src, q.dst, device)
	}
}

// table looks whether conntrack takes another connection.
func (t *traveller) table() {
	count, ok := t.setting("netfilter/nf_conntrack_count")
	most, ok2 := t.setting("netfilter/nf_conntrack_max")
	if ok && ok2 && most > 0 && count >= most {
		t.stop(ConntrackFull, "conntrack is full: %d of %d connections, so packets of new ones are dropped", count, most)
	}
}

// answer looks for the way back of what the other side will answer.
func (t *traveller) answer() {
	if len(t.way.Hops) == 0 || t.way.Hops[0].Route == nil {
		return
	}
	q, ok := t.answerQuestion(t.way.Hops[0].Route)
	if !ok {
		return
	}
	route, err := q.route()
	if err == nil {
		t.name(route)
		t.way.Back = route
		return
	}
	device := t.way.Hops[0].Route.Device
	switch {
	case q.in != 0 && forged(err) && t.explainRPFilter(device, q.src):
	case errors.Is(err, unix.ENETUNREACH):
		t.stop(NoRoute, "there is no route for the answer to %s", q.dst)
	case t.way.Stopped() == nil:
		t.stop(RouteUnreachable, "the kernel has no route for the answer from %s to %s: %v", q.src, q.dst, err)
	}
}

// answerQuestion asks for the route of the answer, which comes in where the packet
// left; ok is false where there is nothing to ask.
func (t *traveller) answerQuestion(sent *Route) (q lookup, ok bool) {
	to := t.packet.Src.Addr()
	if !to.IsValid() && t.way.First != nil {
		to = t.way.First.Source
	}
	if t.packet.Masked {
		plain, err := lookup{dst: t.packet.Dst.Addr(), mark: t.packet.Mark}.route()
		if err != nil {
			return q, false
		}
		to = plain.Source
	}
	q = lookup{src: t.packet.Dst.Addr(), dst: to}
	if !sent.local() {
		q.in = sent.index
	}
	return q, to.IsValid() && !to.IsLoopback()
}

// bridge looks at a packet between two pods on one bridge: unless the bridge shows
// what it passes to iptables, the answer goes straight to the client, which knows
// nothing of who sent it.
func (t *traveller) bridge() {
	h := t.sameBridge()
	if h == nil || t.packet.Asked == t.packet.Dst.Addr() {
		return
	}
	name := "bridge/bridge-nf-call-iptables"
	if t.family == rules.IPv6 {
		name = "bridge/bridge-nf-call-ip6tables"
	}
	on, _ := t.setting(name)
	switch {
	case on == 0 && !t.packet.Masked:
		t.stop(BridgeFilterOff, "%s is not 1: the answer of %s goes to %s within the bridge %s, past the rules that would name the Service as its source",
			sysctlName(name), t.packet.Dst.Addr(), t.packet.Src.Addr(), t.way.In.Name)
	case on != 0 && t.packet.Src.Addr() == t.packet.Dst.Addr():
		t.checkHairpin(h)
	}
}

// sameBridge returns the hop of a packet that leaves by the bridge it came in by.
func (t *traveller) sameBridge() *Hop {
	if t.way.In == nil || t.way.In.Kind != "bridge" || len(t.way.Hops) == 0 {
		return nil
	}
	h := &t.way.Hops[0]
	if h.Route == nil || h.Route.index != t.way.In.Index || !t.beside(t.links[h.Route.index], t.packet.Src.Addr()) {
		return nil
	}
	return h
}

// checkHairpin: a pod that is its own endpoint gets its packet back by the port
// that it came in by.
func (t *traveller) checkHairpin(h *Hop) {
	if len(h.Devices) < 2 {
		return
	}
	port := h.Devices[1]
	info, err := netlink.LinkGetProtinfo(t.links[port.Index])
	if err == nil && !info.Hairpin {
		t.stop(HairpinOff, "%s gets to itself through the Service, and the port %s of %s sends nothing back where it came from (hairpin off)",
			t.packet.Src.Addr(), port.Name, t.way.In.Name)
	}
}
