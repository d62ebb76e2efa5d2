//go:build linux

package kernel

import (
	"cmp"
	"net/netip"

	"github.com/vishvananda/netlink"

	"svcproxy/pkg/rules"
)

// tunnel returns what a VXLAN device puts the packet into; nil if it drops it.
func (t *traveller) tunnel(h *Hop, v *netlink.Vxlan) *Tunnel {
	end, ok := t.tunnelEnd(v.Index, h.Neighbour.mac)
	if !ok && v.FlowBased {
		return nil // who put it on the device decides
	}
	if !ok {
		t.stop(NoFDBEntry, "%s has no forwarding entry for %s, the address of %s, so it does not know the node to send to", v.Name, h.Neighbour.MAC, h.Neighbour.Address)
		return nil
	}
	local, _ := netip.AddrFromSlice(v.SrcAddr)
	return &Tunnel{
		Kind: v.Type(), VNI: cmp.Or(int(end.vni), v.VxlanId), Local: local.Unmap(), Remote: end.addr,
		Port: cmp.Or(end.port, uint16(v.Port)), by: cmp.Or(end.by, v.VtepDevIndex),
	}
}

// outer begins the hop of the packet that another one was put into.
func (t *traveller) outer(in *Tunnel) Hop {
	h := Hop{Src: in.Local, Dst: in.Remote}
	route, err := lookup{src: in.Local, dst: in.Remote, out: in.by, protocol: rules.UDP, dstPort: in.Port}.route()
	if err != nil {
		t.explainRefusal(in.Remote, err)
		return h
	}
	t.name(route)
	h.Route = route
	return h
}
