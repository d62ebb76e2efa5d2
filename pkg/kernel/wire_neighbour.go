//go:build linux

package kernel

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// neighbourStates has the name of each state; noEntry is that of none.
var neighbourStates = map[uint16]string{
	unix.NUD_INCOMPLETE: "INCOMPLETE", unix.NUD_REACHABLE: "REACHABLE", unix.NUD_STALE: "STALE", unix.NUD_DELAY: "DELAY",
	unix.NUD_PROBE: "PROBE", unix.NUD_FAILED: "FAILED", unix.NUD_NOARP: "NOARP", unix.NUD_PERMANENT: "PERMANENT",
}

const noEntry = "none"

// bridgeFamily lists forwarding tables instead of neighbours.
const bridgeFamily = unix.AF_BRIDGE

// neighbour is an entry of either: in a forwarding table addr is the other end of
// the tunnel and index the port, or the tunnel itself.
type neighbour struct {
	index, master int
	state         uint16
	addr          netip.Addr
	mac           net.HardwareAddr
	port          uint16 // of a tunnel, if not the device's own
	vni           uint32 // likewise
	by            int    // the device that the tunnel's packets leave by, if it is not free
}

// readNeighbours lists the entries of all devices.
func readNeighbours(family uint8) (out []neighbour, err error) {
	err = readWhole(func() error {
		req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
		req.AddData(&netlink.Ndmsg{Family: family})
		entries, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
		out = make([]neighbour, 0, len(entries))
		for _, e := range entries {
			if len(e) >= unix.SizeofNdMsg {
				out = append(out, parseNeighbour(e))
			}
		}
		return err
	})
	return out, err
}

func parseNeighbour(msg []byte) neighbour {
	n := neighbour{index: int(int32(number32(msg[4:8]))), state: uint16(msg[8]) | uint16(msg[9])<<8}
	for t, v := range attributes(msg[unix.SizeofNdMsg:]) {
		switch t {
		case unix.NDA_DST:
			n.addr, _ = netip.AddrFromSlice(v)
		case unix.NDA_LLADDR:
			n.mac = slices.Clone(v)
		case unix.NDA_PORT:
			if len(v) == 2 {
				n.port = uint16(v[0])<<8 | uint16(v[1])
			}
		case unix.NDA_VNI:
			n.vni = number32(v)
		case unix.NDA_IFINDEX:
			n.by = int(number32(v))
		case unix.NDA_MASTER:
			n.master = int(number32(v))
		}
	}
	return n
}

// neighbour returns what is known of a next hop.
func (w *Wire) neighbour(a netip.Addr, device netlink.Link) *Neighbour {
	out := &Neighbour{Address: a, State: noEntry, Device: device.Attrs().Name}
	for _, n := range w.neighbours {
		if n.addr == a && n.index == device.Attrs().Index {
			out.State, out.mac, out.MAC = neighbourStates[n.state], n.mac, n.mac.String()
		}
	}
	return out
}

// unresolved reports whether the kernel has asked for the address in vain.
func (n *Neighbour) unresolved() bool {
	return n.State == neighbourStates[unix.NUD_FAILED] || n.State == neighbourStates[unix.NUD_INCOMPLETE]
}

// bridgePort returns the index of the port behind which a bridge has learned, or
// was told, that an address is; 0 if it does not know.
func (w *Wire) bridgePort(bridge int, mac net.HardwareAddr) int {
	for _, n := range w.fdb {
		if n.master == bridge && n.index != bridge && bytes.Equal(n.mac, mac) {
			return n.index
		}
	}
	return 0
}

// tunnelEnd returns the other end to which a VXLAN device sends what is for an
// address: its own entry, or that of all addresses that have none.
func (w *Wire) tunnelEnd(device int, mac net.HardwareAddr) (neighbour, bool) {
	for _, mac := range []net.HardwareAddr{mac, make(net.HardwareAddr, 6)} {
		for _, n := range w.fdb {
			if n.index == device && n.addr.IsValid() && bytes.Equal(n.mac, mac) {
				return n, true
			}
		}
	}
	return neighbour{}, false
}
