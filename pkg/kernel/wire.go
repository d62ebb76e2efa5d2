package kernel

import (
	"fmt"
	"net/netip"

	"svcproxy/pkg/rules"
)

// WirePacket is the first packet of a connection as the rules let it go.
type WirePacket struct {
	Protocol rules.Protocol
	Src, Dst netip.AddrPort // Dst as the rules have it; a packet made on the node may have no Src
	Asked    netip.Addr     // what it was for before the rules; invalid: Dst
	In       string         // device it came in by; empty if it was made on the node
	Mark     uint32         // that the rules have set by the time it is routed
	Masked   bool           // its source becomes an address of the node
	Pods     []netip.Prefix // networks of pods, as far as they are known
}

// Way is how the node sends a packet on, as its network is at the moment.
type Way struct {
	In       *Device   `json:"in,omitempty"`       // nil if made on the node
	First    *Route    `json:"first,omitempty"`    // of a packet made on the node and rewritten: that to what was asked for, which chooses its source
	Hops     []Hop     `json:"hops"`               // the packet's, then for each tunnel that of the outer packet
	Back     *Route    `json:"back,omitempty"`     // the answer's; nil if there is none to look at
	Settings []Setting `json:"settings"`           // sysctls that it depends on
	Findings []Finding `json:"findings,omitempty"` // what is wrong, in the order in which the packet meets it
}

// Hop is one packet's way from its route to the last device that is known.
type Hop struct {
	Src       netip.Addr `json:"src,omitzero"`
	Dst       netip.Addr `json:"dst"`
	Route     *Route     `json:"route,omitempty"`     // nil: there is none
	Neighbour *Neighbour `json:"neighbour,omitempty"` // nil: none is needed
	Devices   []Device   `json:"devices"`             // from that of the route down
	Flooded   []string   `json:"flooded,omitempty"`   // ports of a bridge that has not learned where the neighbour is
	Tunnel    *Tunnel    `json:"tunnel,omitempty"`    // what it is put into; the next hop is that packet's
}

// Setting is a sysctl.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"` // empty: this kernel has none of that name
}

// Finding is something on the way that is not as it should be.
type Finding struct {
	Reason Reason   `json:"reason"`
	Stops  bool     `json:"stops"`  // the packet, or the answer to it, does not arrive for this
	Text   string   `json:"text"`   // what is wrong
	Look   []string `json:"lookAt"` // commands that show more
}

// Reason says in one word why a packet does not arrive. They stay as they are.
type Reason string

// The reasons that are on the way behind the rules.
const (
	NoRoute          Reason = "no-route"
	RouteUnreachable Reason = "route-unreachable" // a route of type unreachable, prohibit, blackhole or throw
	NoNeighbour      Reason = "neighbour-unresolved"
	LinkDown         Reason = "link-down"
	ForwardingOff    Reason = "ip-forward-off"
	RPFilter         Reason = "rp-filter"
	Martian          Reason = "martian"
	NoFDBEntry       Reason = "fdb-missing"
	TunnelDropped    Reason = "tunnel-dropped" // by a rule; what follows a Way to the rules says so
	BridgeFilterOff  Reason = "bridge-nf-off"
	HairpinOff       Reason = "hairpin-off"
	NobodyListens    Reason = "nobody-listens"
	ConntrackFull    Reason = "conntrack-full"
	StaleConntrack   Reason = "stale-conntrack"
)

// looks is for each reason commands that show more.
var looks = map[Reason][]string{
	NoRoute:          {"ip route", "ip rule", "ip -br link"},
	RouteUnreachable: {"ip route show table all", "ip rule"},
	NoNeighbour:      {"ip neigh", "kubectl -n kube-flannel logs ds/kube-flannel-ds, or those of the network plugin there is"},
	LinkDown:         {"ip -d link"},
	ForwardingOff:    {"sysctl --all --pattern 'forward'", "grep -r forward /etc/sysctl.conf /etc/sysctl.d"},
	RPFilter:         {"sysctl --all --pattern 'rp_filter'", "ip route", "ip rule"},
	Martian:          {"ip -br addr", "sysctl net.ipv4.conf.all.route_localnet"},
	NoFDBEntry:       {"bridge fdb show", "kubectl -n kube-flannel logs ds/kube-flannel-ds, or those of the network plugin there is"},
	BridgeFilterOff:  {"modprobe br_netfilter", "sysctl --all --pattern 'bridge-nf'"},
	HairpinOff:       {"bridge -d link"},
	NobodyListens:    {"ss --listening --tcp --udp --numeric --processes"},
	ConntrackFull:    {"sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max", "conntrack -S"},
	StaleConntrack:   {"conntrack -L"},
}

// Stopped returns the first finding that keeps the packet or its answer from
// arriving, if there is one.
func (w *Way) Stopped() *Finding {
	for i := range w.Findings {
		if w.Findings[i].Stops {
			return &w.Findings[i]
		}
	}
	return nil
}

// NewFinding returns one with what to look at.
func NewFinding(r Reason, stops bool, format string, args ...any) Finding {
	return Finding{r, stops, fmt.Sprintf(format, args...), looks[r]}
}
