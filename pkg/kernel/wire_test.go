package kernel

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// wirePod is the namespace of the pod on the node of these tests.
const wirePod = "svcproxy-wire-pod"

// wireNames has what words in braces stand for, by family: the node, the gateway
// and another node on eth0; pods here and there; a Service; a client outside.
var wireNames = map[rules.Family]*strings.Replacer{
	rules.IPv4: strings.NewReplacer("{node}", "192.168.7.100", "{/node}", "24", "{gateway}", "192.168.7.1", "{other}", "192.168.7.103",
		"{cni0}", "10.21.0.1", "{/cni0}", "24", "{pod}", "10.21.0.2", "{pod2}", "10.21.0.3", "{far}", "10.21.1.2", "{farnet}", "10.21.1.0/24", "{fargate}", "10.21.1.0",
		"{pods}", "10.21.0.0/16", "{vip}", "10.96.0.10", "{client}", "192.0.2.77", "{default}", "default", "{v}", "iptables"),
	rules.IPv6: strings.NewReplacer("{node}", "fd00:7::100", "{/node}", "64", "{gateway}", "fd00:7::1", "{other}", "fd00:7::103",
		"{cni0}", "fd00:21::1", "{/cni0}", "64", "{pod}", "fd00:21::2", "{pod2}", "fd00:21::3", "{far}", "fd00:21:1::2", "{farnet}", "fd00:21:1::/64", "{fargate}", "fd00:21:1::",
		"{pods}", "fd00:21::/32", "{vip}", "fd00:96::10", "{client}", "2001:db8::77", "{default}", "default", "{v}", "ip6tables"),
}

// wireNode is a node as flannel makes it: pods on cni0, those elsewhere by VXLAN.
const wireNode = `
ip link add eth0 address 5e:00:00:00:00:64 type veth peer name far0
ip link set eth0 up
ip link set far0 up
ip addr add {node}/{/node} dev eth0 nodad
ip link add cni0 address 5e:00:00:00:21:01 type bridge
ip link set cni0 up
ip addr add {cni0}/{/cni0} dev cni0 nodad
ip netns add ` + wirePod + `
ip link add vethpod type veth peer name eth0 address 5e:00:00:00:21:02 netns ` + wirePod + `
ip link set vethpod master cni0 up
ip -n ` + wirePod + ` link set eth0 up
bridge fdb replace 5e:00:00:00:21:02 dev vethpod master static
ip neigh replace {pod} lladdr 5e:00:00:00:21:02 dev cni0 nud permanent
ip link add flannel.1 address 5e:00:00:01:21:00 mtu 1450 type vxlan id 1 dstport 8472 local {node} dev eth0 nolearning
ip link set flannel.1 up
ip route add {farnet} via {fargate} dev flannel.1 onlink
ip neigh replace {fargate} lladdr 5e:00:00:01:21:03 dev flannel.1 nud permanent
bridge fdb append 5e:00:00:01:21:03 dev flannel.1 dst {other} self permanent
ip neigh replace {other} lladdr 5e:00:00:00:00:67 dev eth0 nud permanent
ip neigh replace {gateway} lladdr 5e:00:00:00:00:01 dev eth0 nud permanent
ip route add default via {gateway} dev eth0
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.cni0.rp_filter=0
`

// wireRun runs commands, a line each; those of ip together.
func wireRun(t *testing.T, f rules.Family, script string) {
	t.Helper()
	batch := ""
	flush := func() {
		if batch != "" {
			kerneltest.Run(t, batch, "ip", map[rules.Family]string{rules.IPv4: "-4", rules.IPv6: "-6"}[f], "-batch", "-")
		}
		batch = ""
	}
	for line := range strings.Lines(wireNames[f].Replace(script)) {
		if rest, ok := strings.CutPrefix(line, "ip "); ok && !strings.HasPrefix(rest, "-n ") {
			batch += rest
			continue
		}
		flush()
		if words := strings.Fields(line); len(words) > 0 {
			kerneltest.Run(t, "", words[0], words[1:]...)
		}
	}
	flush()
}

// enterWireNode makes the test's namespace the node.
func enterWireNode(t *testing.T, f rules.Family) {
	t.Helper()
	kerneltest.Enter(t)
	t.Cleanup(func() { kerneltest.Run(t, "", "ip", "netns", "del", wirePod) })
	wireRun(t, f, wireNode)
}

// wirePacket reads "FROM TO ASKED by DEVICE mark MARK masked": an address, or node
// for a packet that is made here without a source.
func wirePacket(t *testing.T, f rules.Family, text string) WirePacket {
	t.Helper()
	names := wireNames[f]
	addr := func(s string) netip.Addr { return netip.MustParseAddr(names.Replace(s)) }
	words := strings.Fields(text)
	p := WirePacket{Protocol: rules.TCP, Dst: netip.AddrPortFrom(addr(words[1]), 80), Asked: addr(words[2]), Pods: []netip.Prefix{netip.MustParsePrefix(names.Replace("{pods}"))}}
	if words[0] != "node" {
		p.Src = netip.AddrPortFrom(addr(words[0]), 40000)
	}
	for i := 3; i < len(words); i++ {
		switch words[i] {
		case "by":
			p.In = words[i+1]
			i++
		case "mark":
			_, err := fmt.Sscanf(words[i+1], "0x%x", &p.Mark)
			if err != nil {
				t.Fatal(err)
			}
			i++
		case "masked":
			p.Masked = true
		}
	}
	return p
}

func follow(t *testing.T, f rules.Family, packet string) Way {
	t.Helper()
	w, err := NewWire(f)
	if err != nil {
		t.Fatal(err)
	}
	way, err := w.Follow(wirePacket(t, f, packet))
	if err != nil {
		t.Fatal(err)
	}
	return way
}

// said writes a way on a line.
func said(w Way) string {
	var out []string
	for _, h := range w.Hops {
		if h.Route != nil {
			out = append(out, h.Route.String())
		}
		if n := h.Neighbour; n != nil {
			out = append(out, fmt.Sprintf("neighbour %s %s %s", n.Address, n.MAC, n.State))
		}
		for _, d := range h.Devices {
			text := d.Kind + " " + d.Name
			if d.Peer != nil {
				text += " to " + d.Peer.Namespace + d.Peer.Name
			}
			out = append(out, text)
		}
		if tun := h.Tunnel; tun != nil {
			out = append(out, fmt.Sprintf("%s %d %s to %s port %d", tun.Kind, tun.VNI, tun.Local, tun.Remote, tun.Port))
		}
	}
	return strings.Join(out, "; ")
}

func TestAHealthyWayIsToldDownToTheDevice(t *testing.T) {
	for _, f := range rules.Families() {
		for packet, want := range map[string]string{
			"node {pod} {vip}":             "{cninet} dev cni0; neighbour {pod} 5e:00:00:00:21:02 PERMANENT; bridge cni0; veth vethpod to " + wirePod,
			"{client} {pod} {vip} by eth0": "{cninet} dev cni0; neighbour {pod} 5e:00:00:00:21:02 PERMANENT; bridge cni0; veth vethpod to " + wirePod,
			"{pod} {far} {vip} by cni0": "{farnet} via {fargate} dev flannel.1; neighbour {fargate} 5e:00:00:01:21:03 PERMANENT; vxlan flannel.1; " +
				"vxlan 1 {node} to {other} port 8472; {nodenet} dev eth0; neighbour {other} 5e:00:00:00:00:67 PERMANENT; veth eth0 to far0",
			"{client} {node} {node} by eth0": "local {node}/{bits} dev lo; loopback lo",
		} {
			t.Run(f.String()+" "+packet, func(t *testing.T) {
				enterWireNode(t, f)
				listenAt(t, netip.MustParseAddr(wireNames[f].Replace("{node}")))
				names := strings.NewReplacer("{cninet}", map[rules.Family]string{rules.IPv4: "10.21.0.0/24", rules.IPv6: "fd00:21::/64"}[f],
					"{nodenet}", map[rules.Family]string{rules.IPv4: "192.168.7.0/24", rules.IPv6: "fd00:7::/64"}[f],
					"{bits}", map[rules.Family]string{rules.IPv4: "32", rules.IPv6: "128"}[f])
				way := follow(t, f, packet)
				if got, want := said(way), wireNames[f].Replace(names.Replace(want)); got != want || len(way.Findings) > 0 {
					t.Errorf("got  %s\nwant %s\nfindings %+v", got, want, way.Findings)
				}
				if _, err := json.Marshal(way); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// listenAt listens at port 80 of an address.
func listenAt(t *testing.T, at netip.Addr) {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, 80)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

func TestSocketsThatListen(t *testing.T) {
	for _, f := range rules.Families() {
		t.Run(f.String(), func(t *testing.T) {
			kerneltest.Enter(t)
			wireRun(t, f, "ip addr add {node}/{/node} dev lo nodad\nip addr add {other}/{/node} dev lo nodad")
			node, other := netip.MustParseAddr(wireNames[f].Replace("{node}")), netip.MustParseAddr(wireNames[f].Replace("{other}"))
			listenAt(t, node)
			everywhere, err := net.ListenPacket("udp", ":53")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = everywhere.Close() })
			for _, c := range []struct {
				protocol rules.Protocol
				at       netip.AddrPort
				want     bool
			}{
				{rules.TCP, netip.AddrPortFrom(node, 80), true}, {rules.TCP, netip.AddrPortFrom(node, 81), false},
				{rules.TCP, netip.AddrPortFrom(other, 80), false}, {rules.UDP, netip.AddrPortFrom(node, 80), false},
				{rules.UDP, netip.AddrPortFrom(other, 53), true}, {rules.TCP, netip.AddrPortFrom(other, 53), false},
				{rules.SCTP, netip.AddrPortFrom(other, 53), true}, // not known
			} {
				if got := listens(c.protocol, c.at); got != c.want {
					t.Errorf("%s %s: %v", c.protocol, c.at, got)
				}
			}
		})
	}
}

func TestEachThingThatIsBrokenIsNamed(t *testing.T) {
	const (
		here = "{client} {pod} {vip} by eth0"
		away = "{pod} {far} {vip} by cni0"
		made = "node {far} {vip}"
	)
	for _, c := range []struct {
		name, breaking, packet string
		reason                 Reason
		text                   string
		only                   rules.Family // 0: both
	}{
		{"nothing, from outside", "", here, "", "", 0},
		{"nothing, to another node", "", away, "", "", 0},
		{"nothing, made here", "", made, "", "", 0},
		{"the network plugin's route", "ip route del {farnet}", away, NoRoute, "no route leads to {far} but the default one (default via {gateway} dev eth0)", 0},
		{"all routes", "ip route del {farnet}\nip route del default", "{pod} {far} {vip} by cni0", NoRoute, "there is no route to {far}", 0},
		{"the default route, for the node's own processes", "ip route del default", made, NoRoute, "the node's own processes have no route to {vip}", 0},
		{"a route of type unreachable", "ip route add unreachable {far}", made, RouteUnreachable, "of type unreachable", 0},
		{"a route of type unreachable, forwarded", "ip route add unreachable {far}", away, RouteUnreachable, "of type unreachable", 0},
		{"a route of type blackhole", "ip route add blackhole {far}", away, RouteUnreachable, "of type blackhole", 0},
		{"a route of type prohibit", "ip route add prohibit {far}", away, RouteUnreachable, "of type prohibit", 0},
		{"a routing rule for the mark", "ip route add blackhole {farnet} table 100\nip rule add fwmark 0x4000/0x4000 table 100", away + " mark 0x4000", RouteUnreachable, "blackhole", 0},
		{"a routing rule for another mark", "ip route add blackhole {farnet} table 100\nip rule add fwmark 0x8000/0x8000 table 100", away + " mark 0x4000", "", "", 0},
		{"a routing rule for the port", "ip route add blackhole {farnet} table 100\nip rule add ipproto tcp dport 80 table 100", away, RouteUnreachable, "blackhole", 0},
		{"a neighbour that fails", "ip neigh replace {pod} dev cni0 nud failed", here, NoNeighbour, "{pod} does not answer on cni0: its neighbour entry is FAILED", 0},
		{"no neighbour entry in a tunnel", "ip neigh del {fargate} dev flannel.1", away, NoNeighbour, "flannel.1 has no neighbour entry for {fargate}", 0},
		{"the other node's neighbour entry", "ip neigh replace {other} dev eth0 nud failed", away, NoNeighbour, "{other} does not answer on eth0", 0},
		{"no forwarding entry", "bridge fdb del 5e:00:00:01:21:03 dev flannel.1 dst {other} self", away, NoFDBEntry, "flannel.1 has no forwarding entry for 5e:00:00:01:21:03", 0},
		{"another forwarding entry for all", "bridge fdb del 5e:00:00:01:21:03 dev flannel.1 dst {other} self\nbridge fdb append 00:00:00:00:00:00 dev flannel.1 dst {other} self permanent", away, "", "", 0},
		{"the bridge has no port", "ip link set vethpod nomaster", here, NoFDBEntry, "the bridge cni0 has no port", 0},
		{"the port is down", "ip link set vethpod down", here, LinkDown, "vethpod (veth) is down", 0},
		{"the port of a pod that does not answer is down", "ip link set vethpod down\nip neigh replace {pod} dev cni0 nud failed", here, LinkDown, "the port vethpod (veth) of it is down", 0},
		{"the pod's own device is down", "ip -n " + wirePod + " link set eth0 down", here, LinkDown, "vethpod (veth) has no carrier", 0},
		{"the bridge is down", "ip link set cni0 down", here, LinkDown, "cni0 (bridge) is down", rules.IPv4}, // IPv6 addresses go with it
		{"the tunnel is down", "ip link set flannel.1 down", away, LinkDown, "flannel.1 (vxlan) is down, and with it the routes by it are gone", 0},
		{"eth0 is down", "ip link set eth0 down", away, LinkDown, "eth0 (veth) is down", rules.IPv4},
		{"eth0 is down", "ip link set eth0 down", away, NoRoute, "there is no route to {other}", rules.IPv6},
		{"forwarding is off", "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0", away, ForwardingOff, "is 0, so the node does not forward what comes in by cni0", 0},
		{"forwarding is off at the device", "sysctl -qw net.ipv4.conf.cni0.forwarding=0", away, ForwardingOff, "net.ipv4.conf.cni0.forwarding is 0", rules.IPv4},
		{"forwarding is off, and the packet is made here", "sysctl -qw net.ipv4.conf.all.forwarding=0 net.ipv6.conf.all.forwarding=0", made, "", "", 0},
		{"forwarding is off, and the packet is for the node", "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0", "{client} {node} {vip} by eth0", NobodyListens, "nothing on it listens at tcp 80", 0},
		{"strict rp_filter", "sysctl -qw net.ipv4.conf.eth0.rp_filter=1", "{far} {pod} {vip} by eth0", RPFilter, "the way back to {far} leaves by flannel.1", rules.IPv4},
		{"strict rp_filter of all", "sysctl -qw net.ipv4.conf.all.rp_filter=1", "{far} {pod} {vip} by eth0", RPFilter, "rp_filter of eth0 is 1", rules.IPv4},
		{"loose rp_filter of the device", "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=2", "{far} {pod} {vip} by eth0", "", "", rules.IPv4},
		{"rp_filter refuses the answer", "sysctl -qw net.ipv4.conf.flannel/1.rp_filter=1\nip route add {farnet} via {gateway} dev eth0 table 101\nip rule add pref 100 to {farnet} lookup 101\nip rule add pref 99 fwmark 0x1 lookup main", made + " mark 0x1", RPFilter, "the way back to {far} leaves by eth0", rules.IPv4},
		{"from the node's own address", "", "{node} {pod} {vip} by eth0", Martian, "{node} is an address of this node", rules.IPv4},
		{"to loopback from outside", "", "{client} 127.0.0.1 {node} by eth0", Martian, "a loopback address does not cross eth0", rules.IPv4},
		{"from loopback to a pod", "", "127.0.0.1 {pod} 127.0.0.1", Martian, "a loopback address does not cross cni0", rules.IPv4},
		{"from loopback to a pod with route_localnet", "sysctl -qw net.ipv4.conf.all.route_localnet=1", "127.0.0.1 {pod} 127.0.0.1 masked", "", "", rules.IPv4},
		{"pods on one bridge past iptables", "sysctl -qw net.bridge.bridge-nf-call-{v}=0", "{pod2} {pod} {vip} by cni0", BridgeFilterOff, "net.bridge.bridge-nf-call-{v} is not 1", 0},
		{"pods on one bridge past iptables, masqueraded", "sysctl -qw net.bridge.bridge-nf-call-{v}=0", "{pod2} {pod} {vip} by cni0 masked", "", "", 0},
		{"pods on one bridge without a Service", "sysctl -qw net.bridge.bridge-nf-call-{v}=0", "{pod2} {pod} {pod} by cni0", "", "", 0},
		{"a pod to itself without hairpin", "sysctl -qw net.bridge.bridge-nf-call-{v}=1", "{pod} {pod} {vip} by cni0 masked", HairpinOff, "the port vethpod of cni0", 0},
		{"a pod to itself with hairpin", "sysctl -qw net.bridge.bridge-nf-call-{v}=1\nip link set vethpod type bridge_slave hairpin on", "{pod} {pod} {vip} by cni0 masked", "", "", 0},
	} {
		for _, f := range rules.Families() {
			if c.only != 0 && c.only != f {
				continue
			}
			t.Run(f.String()+" "+c.name, func(t *testing.T) {
				enterWireNode(t, f)
				wireRun(t, f, c.breaking)
				way := follow(t, f, c.packet)
				stopped := way.Stopped()
				if stopped == nil {
					if c.reason != "" {
						t.Errorf("nothing stops it; want %s\n%s\n%+v", c.reason, said(way), way.Findings)
					}
					return
				}
				if stopped.Reason != c.reason || !strings.Contains(stopped.Text, wireNames[f].Replace(c.text)) || len(stopped.Look) == 0 {
					t.Errorf("%s: %s\nwant %s: %s\n%s", stopped.Reason, stopped.Text, c.reason, wireNames[f].Replace(c.text), said(way))
				}
			})
		}
	}
}

func TestAFullConntrackTableIsNamed(t *testing.T) {
	enterWireNode(t, rules.IPv4)
	w, err := NewWire(rules.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	w.sysctls = t.TempDir()
	for name, value := range map[string]string{"nf_conntrack_max": "1000\n", "nf_conntrack_count": "1000\n"} {
		path := filepath.Join(w.sysctls, "netfilter", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	way, err := w.Follow(wirePacket(t, rules.IPv4, "node {pod} {vip}"))
	if err != nil {
		t.Fatal(err)
	}
	if f := way.Stopped(); f == nil || f.Reason != ConntrackFull || !strings.Contains(f.Text, "1000 of 1000") {
		t.Errorf("stopped by %+v", f)
	}
}

func TestADeviceThatIsNotThere(t *testing.T) {
	kerneltest.Enter(t)
	w, err := NewWire(rules.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Follow(wirePacket(t, rules.IPv4, "{client} {pod} {vip} by eth7"))
	if err == nil || !strings.Contains(err.Error(), "eth7") || !strings.Contains(err.Error(), "ip link") {
		t.Errorf("error %v", err)
	}
}
