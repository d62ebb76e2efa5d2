package kernel

import (
	"net"
	"net/netip"
)

// Types of routes that matter here.
const (
	routeUnicast = "unicast"
	routeLocal   = "local"
)

// Route is what the node's routing tables, and the rules that choose among them,
// have for a packet.
type Route struct {
	Type    string       `json:"type"`             // unicast, or local: the packet is for the node itself
	Prefix  netip.Prefix `json:"prefix"`           // of the destinations that the route is for
	Gateway netip.Addr   `json:"gateway,omitzero"` // invalid: the destination is a neighbour itself
	Device  string       `json:"device"`
	Source  netip.Addr   `json:"source,omitzero"` // that a packet made on the node gets
	Table   uint32       `json:"table"`
	Paths   int          `json:"paths,omitempty"` // next hops of the route, if several: this is the one for these addresses

	index int // of the device
}

// String returns the route in the words of `ip route`.
func (r *Route) String() string {
	text := r.Prefix.String()
	if r.Prefix.Bits() == 0 {
		text = "default"
	}
	if r.Type != routeUnicast {
		text = r.Type + " " + text
	}
	if r.Gateway.IsValid() {
		text += " via " + r.Gateway.String()
	}
	return text + " dev " + r.Device
}

// local reports whether the packet goes no further than the node.
func (r *Route) local() bool { return r.Type == routeLocal }

// Neighbour is the link layer address of a next hop (ARP, neighbour discovery).
type Neighbour struct {
	Address netip.Addr `json:"address"`
	MAC     string     `json:"mac,omitempty"` // empty: not known
	State   string     `json:"state"`         // as `ip neigh` says it, or none: there is no entry
	Device  string     `json:"device"`

	mac net.HardwareAddr
}

// Device is a network device of the node.
type Device struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	Kind  string `json:"kind"` // as `ip -d link` names it: bridge, veth, vxlan, vlan, wireguard, ...; device for hardware
	MTU   int    `json:"mtu"`
	Up    bool   `json:"up"`
	State string `json:"state"`          // operational: up, down, lowerlayerdown, unknown, ...
	Peer  *Peer  `json:"peer,omitempty"` // of a veth
}

// Peer is the other end of a veth.
type Peer struct {
	Index       int    `json:"index"`
	Name        string `json:"name,omitempty"`        // if it is in the node's own namespace
	NamespaceID *int   `json:"namespaceID,omitempty"` // the node's number for the other namespace; nil: the node's own
	Namespace   string `json:"namespace,omitempty"`   // its name below /run/netns; empty if it has none there
}

// Tunnel is what a packet is put into: a UDP packet of VXLAN.
type Tunnel struct {
	Kind   string     `json:"kind"`
	VNI    int        `json:"vni"`
	Local  netip.Addr `json:"local,omitzero"` // the outer source; invalid: as the route has it
	Remote netip.Addr `json:"remote"`         // the outer destination, from the forwarding table (FDB)
	Port   uint16     `json:"port"`           // the outer destination port

	by int // device that the outer packet must leave by; 0: any
}

// Connection is one that conntrack knows: its packets go where the first one went,
// past the rules of nat.
type Connection struct {
	Src      netip.AddrPort `json:"src"`             // as the client sends
	Dst      netip.AddrPort `json:"dst"`             // likewise, before it is rewritten
	Server   netip.AddrPort `json:"server"`          // who gets the packets; Dst: they are not rewritten
	Client   netip.AddrPort `json:"client"`          // whom the server sees; Src: the source is not rewritten
	State    string         `json:"state,omitempty"` // of TCP
	Answered bool           `json:"answered"`        // a packet came back
	Assured  bool           `json:"assured"`         // it was established, or for UDP went both ways for a while
	Seconds  uint32         `json:"seconds"`         // until it is forgotten, if no packet comes
}

// Refused reports whether the server itself refused it: it reset a connection that
// was never established.
func (c *Connection) Refused() bool { return c.State == "CLOSE" && c.Answered && !c.Assured }
