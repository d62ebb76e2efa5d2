package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// inNamespace runs a test in a namespace of its own for each family. The
// addresses are those of a client, a Service and two pods, and of the node.
func inNamespace(t *testing.T, test func(t *testing.T, f rules.Family, a []string)) {
	t.Helper()
	addrs := map[rules.Family][]string{
		rules.IPv4: {"10.250.0.9", "10.96.0.10", "10.21.0.1", "10.21.0.2", "10.250.0.2"},
		rules.IPv6: {"fd00:250::9", "fd00:96::10", "fd00:21::1", "fd00:21::2", "fd00:250::2"},
	}
	for _, f := range rules.Families() {
		t.Run(f.String(), func(t *testing.T) {
			kerneltest.Enter(t)
			kerneltest.Run(t, "", "ip", "addr", "add", addrs[f][4], "dev", "lo", "nodad")
			for range 500 { // the kernel makes an IPv6 address local a moment later
				if strings.Contains(kerneltest.Run(t, "", "ip", "route", "get", addrs[f][4]), "local") {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			test(t, f, addrs[f])
		})
	}
}

// add makes an entry of conntrack.
func add(t *testing.T, protocol, from, fromPort, dst, dstPort, by, byPort string, more ...string) {
	t.Helper()
	args := []string{"-I", "-p", protocol, "-t", "100",
		"-s", from, "-d", dst, "--sport", fromPort, "--dport", dstPort,
		"--reply-src", by, "--reply-dst", from, "--reply-port-src", byPort, "--reply-port-dst", fromPort}
	kerneltest.Run(t, "", "conntrack", append(args, more...)...)
}

// sourcePorts lists the entries that there are.
func sourcePorts(t *testing.T, f rules.Family) string {
	t.Helper()
	var ports []string
	for line := range strings.Lines(kerneltest.Run(t, "", "conntrack", "-L", "-f", strings.ToLower(f.String()))) {
		if _, after, ok := strings.Cut(line, "sport="); ok {
			port, _, _ := strings.Cut(after, " ")
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	return strings.Join(ports, " ")
}

func TestDeleteFlowsDeletesWhatIsPickedAndNothingElse(t *testing.T) {
	inNamespace(t, func(t *testing.T, f rules.Family, a []string) {
		client, vip, pod, other, node := a[0], a[1], a[2], a[3], a[4]
		add(t, "udp", client, "1001", vip, "53", pod, "5353")
		add(t, "udp", client, "1002", vip, "53", other, "5353")
		add(t, "udp", client, "1003", vip, "53", vip, "53")
		add(t, "udp", client, "1004", node, "30053", pod, "5353", "-w", "7")
		add(t, "sctp", client, "1005", vip, "53", pod, "5353", "--state", "ESTABLISHED", "--orig-vtag", "1", "--reply-vtag", "2")
		add(t, "tcp", client, "1006", vip, "53", pod, "5353", "--state", "ESTABLISHED", "-u", "SEEN_REPLY")
		add(t, "tcp", client, "1007", vip, "53", vip, "53", "--state", "SYN_SENT")

		var seen []string
		for protocol, want := range map[rules.Protocol]int{rules.UDP: 2, rules.SCTP: 1, rules.TCP: 1} {
			n, err := NewFlows(f).DeleteFlows(context.Background(), protocol, func(fl rules.Flow) bool {
				seen = append(seen, fmt.Sprintf("%s %s %s %v", fl.Protocol, fl.Dst, fl.From, fl.Local))
				if fl.Protocol == rules.TCP {
					return !fl.Answered
				}
				return fl.From.Addr() == netip.MustParseAddr(pod)
			})
			if n != want || err != nil {
				t.Errorf("%s: %d deleted, error %v, want %d", protocol, n, err, want)
			}
		}
		at := net.JoinHostPort
		want := []string{
			"sctp " + at(vip, "53") + " " + at(pod, "5353") + " false",
			"tcp " + at(vip, "53") + " " + at(pod, "5353") + " false",
			"tcp " + at(vip, "53") + " " + at(vip, "53") + " false",
			"udp " + at(vip, "53") + " " + at(pod, "5353") + " false",
			"udp " + at(vip, "53") + " " + at(other, "5353") + " false",
			"udp " + at(vip, "53") + " " + at(vip, "53") + " false",
			"udp " + at(node, "30053") + " " + at(pod, "5353") + " true",
		}
		slices.Sort(seen)
		slices.Sort(want)
		if !slices.Equal(seen, want) {
			t.Errorf("seen:\n%s\nwant:\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
		}
		if left := sourcePorts(t, f); left != "1002 1003 1006" {
			t.Errorf("left: %s", left)
		}
	})
}

// The flows of another protocol, and of the other family, are not even sent; by
// kernels that do they are passed over.
func TestTheKernelSendsOneProtocol(t *testing.T) {
	inNamespace(t, func(t *testing.T, f rules.Family, a []string) {
		add(t, "tcp", a[0], "1001", a[1], "53", a[2], "53", "--state", "ESTABLISHED")
		add(t, "udp", a[0], "1002", a[1], "53", a[2], "53")
		for flows, want := range map[*Flows]int{NewFlows(f): 1, NewFlows(10 - f): 0} {
			if sent, err := flows.dump(rules.UDP).Execute(unix.NETLINK_NETFILTER, 0); err != nil || len(sent) != want {
				t.Errorf("%s: %d entries, error %v, want %d", flows.family, len(sent), err, want)
			}
		}
		all, err := NewFlows(f).request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP).Execute(unix.NETLINK_NETFILTER, 0)
		if err != nil || len(all) != 2 {
			t.Fatalf("%d entries, error %v", len(all), err)
		}
		_, one := parseFlow(all[0][nl.SizeofNfgenmsg:], rules.UDP)
		_, two := parseFlow(all[1][nl.SizeofNfgenmsg:], rules.UDP)
		if one == two {
			t.Errorf("of a flow over TCP and one over UDP those over UDP are: %v, %v", one, two)
		}
	})
}

// Another flow with the same addresses has another ID and stays; a flow that has
// ended by itself is no error.
func TestDeleteFlowsTakesNoFlowForAnother(t *testing.T) {
	inNamespace(t, func(t *testing.T, f rules.Family, a []string) {
		flows := NewFlows(f)
		add(t, "udp", a[0], "1001", a[1], "53", a[2], "53")
		picked, err := flows.pick(rules.UDP, &addressSet{}, func(rules.Flow) bool { return true })
		if err != nil || len(picked) != 1 {
			t.Fatalf("picked %d, error %v", len(picked), err)
		}
		flipID := func() {
			for attr, v := range attributes(picked[0]) {
				if attr == nl.CTA_ID {
					v[0] ^= 0xff
				}
			}
		}
		remove := func(what string, want int, left string) {
			t.Helper()
			if n, err := flows.delete(context.Background(), picked); n != want || err != nil {
				t.Errorf("%s: %d deleted, error %v", what, n, err)
			}
			if got := sourcePorts(t, f); got != left {
				t.Errorf("%s: left: %q, want %q", what, got, left)
			}
		}
		flipID()
		remove("another", 0, "1001")
		flipID()
		remove("the same", 1, "")
		remove("ended", 0, "")
	})
}

func TestDeleteFlowsEndsWithItsContext(t *testing.T) {
	inNamespace(t, func(t *testing.T, f rules.Family, a []string) {
		add(t, "udp", a[0], "1001", a[1], "53", a[2], "53")
		ctx, cancel := context.WithCancel(context.Background())
		n, err := NewFlows(f).DeleteFlows(ctx, rules.UDP, func(rules.Flow) bool { cancel(); return true })
		if n != 0 || !errors.Is(err, context.Canceled) || sourcePorts(t, f) != "1001" {
			t.Errorf("%d deleted, error %v, left %q", n, err, sourcePorts(t, f))
		}
	})
}

// Addresses of the node are those that its rules match with --dst-type LOCAL:
// also what is routed to it without being an interface's.
func TestLocalAddresses(t *testing.T) {
	inNamespace(t, func(t *testing.T, f rules.Family, a []string) {
		family, network, in, loopback := "-4", "198.51.100.0/24", "198.51.100.7", "127.0.0.9"
		if f == rules.IPv6 {
			family, network, in, loopback = "-6", "2001:db8:100::/64", "2001:db8:100::7", "::1"
		}
		kerneltest.Run(t, "", "ip", family, "route", "add", "local", network, "dev", "lo")
		set, err := NewFlows(f).localAddresses()
		if err != nil {
			t.Fatal(err)
		}
		for addr, want := range map[string]bool{a[4]: true, in: true, loopback: true, a[0]: false, a[1]: false} {
			if got := set.contains(netip.MustParseAddr(addr)); got != want {
				t.Errorf("%s local: %v, want %v", addr, got, want)
			}
		}
	})
}

func TestAnInterruptedReadIsTriedAgain(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		interrupted int
		then        error
		want        error
		reads       int
	}{{0, nil, nil, 1}, {2, nil, nil, 3}, {1, broken, broken, 2}, {99, nil, netlink.ErrDumpInterrupted, readTries}} {
		reads := 0
		err := readWhole(func() error {
			if reads++; reads <= c.interrupted {
				return fmt.Errorf("some: %w", netlink.ErrDumpInterrupted)
			}
			return c.then
		})
		if reads != c.reads || !errors.Is(err, c.want) {
			t.Errorf("interrupted %d times, then %v: %d reads, error %v", c.interrupted, c.then, reads, err)
		}
	}
}

func FuzzParseFlow(f *testing.F) {
	f.Add((&Flows{rules.IPv4}).dump(rules.UDP).Serialize()[unix.SizeofNlMsghdr+nl.SizeofNfgenmsg:])
	f.Fuzz(func(t *testing.T, entry []byte) {
		if flow, ok := parseFlow(entry, rules.UDP); ok && (!flow.Dst.IsValid() || !flow.From.IsValid()) {
			t.Errorf("not valid: %+v", flow)
		}
	})
}
