//go:build linux

package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// links is the node's devices by their index.
type links map[int]netlink.Link

func readLinks() (links, error) {
	var list []netlink.Link
	err := readWhole(func() (err error) {
		list, err = netlink.LinkList()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	out := links{}
	for _, l := range list {
		out[l.Attrs().Index] = l
	}
	return out, nil
}

// named returns the device of that name; nil if there is none.
func (l links) named(name string) netlink.Link {
	for _, link := range l {
		if link.Attrs().Name == name {
			return link
		}
	}
	return nil
}

// inOrder returns all by index.
func (l links) inOrder() []netlink.Link {
	var out []netlink.Link
	for _, link := range l {
		out = append(out, link)
	}
	slices.SortFunc(out, func(a, b netlink.Link) int { return a.Attrs().Index - b.Attrs().Index })
	return out
}

// device describes one for people.
func (l links) device(link netlink.Link) Device {
	a := link.Attrs()
	d := Device{Name: a.Name, Index: a.Index, Kind: link.Type(), MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, State: a.OperState.String()}
	switch {
	case a.Flags&net.FlagLoopback != 0:
		d.Kind = "loopback"
	case d.Kind == "veth" && a.ParentIndex != 0:
		d.Peer = l.peer(a)
	}
	return d
}

func (l links) peer(a *netlink.LinkAttrs) *Peer {
	p := &Peer{Index: a.ParentIndex}
	if a.NetNsID < 0 {
		if other := l[a.ParentIndex]; other != nil {
			p.Name = other.Attrs().Name
		}
		return p
	}
	p.NamespaceID, p.Namespace = &a.NetNsID, namespaceName(a.NetNsID)
	return p
}

// namespaceName looks for a namespace below /run/netns, where network plugins and
// ip make them known.
func namespaceName(id int) string {
	paths, _ := filepath.Glob("/run/netns/*")
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		got, err := netlink.GetNetNsIdByFd(int(f.Fd()))
		_ = f.Close()
		if err == nil && got == id {
			return filepath.Base(path)
		}
	}
	return ""
}

// down says why nothing goes through a device; empty if it does. A bridge has no
// carrier if none of its ports has one, which is said of the port.
func (d *Device) down() string {
	switch {
	case !d.Up:
		return "is down"
	case d.Kind == "bridge":
		return ""
	case d.State == netlink.LinkOperState(netlink.OperLowerLayerDown).String():
		return "has no carrier: its other end is down"
	case d.State == netlink.LinkOperState(netlink.OperDown).String():
		return "has no carrier"
	}
	return ""
}

// needsNeighbour reports whether packets that leave by the device are addressed to
// a neighbour.
func needsNeighbour(link netlink.Link) bool {
	return link.Attrs().RawFlags&(unix.IFF_NOARP|unix.IFF_LOOPBACK) == 0
}

// overlays is the kinds of devices that put packets for pods into others.
var overlays = []string{"vxlan", "geneve", "ipip", "gre", "sit", "ip6tnl", "wireguard"}

// silenced returns the devices that are down and that a packet would leave by were
// they up: those with an address beside its destination; or, if any is set, those
// that lead to pods elsewhere. A device that is down has no routes.
func (w *Wire) silenced(dst netip.Addr, any bool) []Device {
	var out []Device
	for _, link := range w.links.inOrder() {
		d := w.links.device(link)
		if d.Up {
			continue
		}
		if any && slices.Contains(overlays, d.Kind) || w.beside(link, dst) {
			out = append(out, d)
		}
	}
	return out
}

// DeviceTo returns the name of the device by which packets to an address leave;
// empty if there is no route.
func (w *Wire) DeviceTo(a netip.Addr) string {
	r, err := lookup{dst: a}.ask(unix.RTM_F_LOOKUP_TABLE)
	if err != nil || w.links[r.index] == nil {
		return ""
	}
	return w.links[r.index].Attrs().Name
}

// beside reports whether an address is in the network of one of a device's.
func (w *Wire) beside(link netlink.Link, dst netip.Addr) bool {
	addrs, err := netlink.AddrList(link, int(netlinkFamily(w.family)))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.Contains(dst.AsSlice()) })
}

// hasOverlay reports whether the node sends packets to pods elsewhere by a tunnel.
func (w *Wire) hasOverlay() bool {
	for _, link := range w.links {
		if slices.Contains(overlays, link.Type()) {
			return true
		}
	}
	return false
}
