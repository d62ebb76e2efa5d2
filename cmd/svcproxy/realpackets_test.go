package main

import (
	"bytes"
	"context"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// Every packet of the matrix of each case is sent as a real one through the
// kernel, on both backends, and fares as is said of it.
func TestRealPacketsFareAsIsSaid(t *testing.T) {
	paths, err := filepath.Glob("testdata/kube-proxy/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			n := newTunNode(t)
			flows, packets := 0, 0
			for _, path := range paths {
				// Not a subtest: it would run outside of the namespace.
				f, p := n.sendCase(t, backend, path)
				flows, packets = flows+f, packets+p
			}
			t.Logf("%d cases, %d kinds of packets, %d packets", len(paths), flows, packets)
		})
	}
}

func (n *tunNode) sendCase(t *testing.T, backend, path string) (flows, packets int) {
	t.Helper()
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := kubeProxyCase{archive: a, objects: readObjects(t, section(a, "objects.yaml"))}
	defer n.own(t, c.objects.nodeAddresses())()
	for _, f := range rules.Families() {
		kerneltest.Run(t, "", "conntrack", "-F")
		n.listen(t, f)
		n.load(t, backend, c.dryRunText(t, f))
		e := experiment{n: n, t: t, name: filepath.Base(path), objects: c.objects, tables: n.saved(t, backend)}
		e.run()
		flows, packets = flows+len(e.flows), packets+len(e.probes)
	}
	return flows, packets
}

// experiment sends the matrix of a case in one family.
type experiment struct {
	n       *tunNode
	t       *testing.T
	name    string
	objects *apiObjects
	tables  []rules.Table
	lists   []string // of recent

	flows  []flow
	fates  [][]rules.Fate // of each flow, as is said
	probes []probe        // in the order of their ids, from 1
}

// probe is a packet that was sent, and what was seen of it.
type probe struct {
	flow             int
	sent             rawPacket
	arrived, refused bool
	as               rawPacket // that arrived
}

func (e *experiment) run() {
	e.lists = recentLists(e.tables)
	own := append(e.objects.nodeAddresses(), masked[e.n.family])
	for _, to := range e.objects.destinations(e.n.family) {
		for _, from := range e.objects.positions(e.n.family, e.lists) {
			if !impossible(own, to, from) {
				e.flows = append(e.flows, flow{to, from})
			}
		}
	}
	e.n.got = e.note
	for i, f := range e.flows {
		fates, err := rules.Walk(e.tables, rules.Host{Addresses: own}, rules.Packet{
			FromNode: f.from.node, In: f.from.in, Protocol: f.to.protocol, Seen: f.from.seen,
			Src: netip.AddrPortFrom(f.from.src, 40000), Dst: f.to.addr,
		})
		if err != nil {
			e.t.Fatalf("%s: %s from %s: %v", e.name, f.to, f.from.name, err)
		}
		e.fates = append(e.fates, fates)
		for range tries(fates, f.from) {
			e.send(i)
		}
	}
	e.wait()
	e.compare()
}

// impossible packets are those that no rule sees, as the kernel drops them before:
// from a source that cannot be elsewhere, or to IPv6's loopback from there.
func impossible(own []netip.Addr, to destination, from position) bool {
	src, dst := from.src, to.addr.Addr()
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return dst.IsMulticast() || !from.node &&
		(slices.Contains(own, src) || src.IsLoopback() || src.IsMulticast() || src == broadcast || dst == netip.IPv6Loopback())
}

// tries is how many packets of a kind are sent: so many that it is less likely than 1
// to 10^9 that a fate is missed. Where there are many endpoints, only the clients
// besides these try so often.
func tries(fates []rules.Fate, from position) int {
	least := 1.0
	for _, f := range fates {
		least = min(least, f.Probability)
	}
	if least == 1 || samples(fates, from) {
		return 1
	}
	return int(math.Ceil(math.Log(1e-9) / math.Log1p(-least)))
}

// samples reports whether not all fates are to be seen.
func samples(fates []rules.Fate, from position) bool {
	const many = 5
	return len(fates) > many && strings.HasPrefix(from.name, "endpoint ")
}

// send sends one packet of a flow. Each has a port of its own, so that it is a
// connection of its own.
func (e *experiment) send(i int) {
	f := e.flows[i]
	e.n.remember(e.t, e.lists, f.from.seen, f.from.src)
	id := uint32(len(e.probes) + 1)
	p := rawPacket{f.to.protocol, netip.AddrPortFrom(f.from.src, uint16(10000+id%50000)), f.to.addr, id}
	e.probes = append(e.probes, probe{flow: i, sent: p})
	if err := e.n.send(f.from, p); err != nil {
		e.t.Errorf("%s: send %s from %s: %v", e.name, f.to, f.from.name, err)
	}
	const few = 32 // that the devices' queues hold easily
	if id%few == 0 {
		e.n.drain()
	}
}

func (e *experiment) note(p rawPacket, refused bool) {
	if p.id == 0 || int(p.id) > len(e.probes) {
		return
	}
	probe := &e.probes[p.id-1]
	if refused {
		probe.refused = true
	} else if !probe.arrived {
		probe.arrived, probe.as = true, p
	}
}

// wait waits for what should arrive. What should not would have done so before
// that: the kernel has gone through each packet by the time it is sent.
func (e *experiment) wait() {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		e.n.drain()
		if !slices.ContainsFunc(e.probes, e.missing) {
			return
		}
	}
}

func (e *experiment) missing(p probe) bool {
	dropped := slices.ContainsFunc(e.fates[p.flow], func(f rules.Fate) bool { return f.Verdict == rules.Drop })
	return !dropped && !p.arrived && !p.refused
}

// compare holds what was seen of each flow against what is said of it.
func (e *experiment) compare() {
	seen := make([][]string, len(e.flows))
	for _, p := range e.probes {
		seen[p.flow] = append(seen[p.flow], e.words(p))
	}
	for i, f := range e.flows {
		var said []string
		for _, fate := range e.fates[i] {
			fate.Probability = 1
			said = append(said, inWords([]rules.Fate{fate}, f.to.addr))
		}
		said, seen := unique(said), unique(seen[i])
		other := func(word string) bool { return !slices.Contains(said, word) }
		if slices.ContainsFunc(seen, other) || len(seen) < len(said) && !samples(e.fates[i], f.from) {
			e.t.Errorf("%s: %s from %s: %s\nsaid: %s", e.name, f.to, f.from.name, strings.Join(seen, ", "), strings.Join(said, ", "))
		}
	}
}

// words says what became of a packet, as inWords does of a fate.
func (e *experiment) words(p probe) string {
	fate := rules.Fate{Verdict: rules.Drop, Probability: 1}
	switch {
	case p.arrived:
		fate.Verdict, fate.Dst = rules.Accept, p.as.dst
		fate.Masqueraded = p.as.src.Addr() == masked[e.n.family]
		if !fate.Masqueraded && p.as.src != p.sent.src {
			return "from " + p.as.src.String()
		}
	case p.refused:
		fate.Verdict = rules.Reject
	}
	return inWords([]rules.Fate{fate}, p.sent.dst)
}

func unique(words []string) []string {
	slices.Sort(words)
	return slices.Compact(words)
}

// dryRunText is what svcproxy prints for the case's objects and flags.
func (c *kubeProxyCase) dryRunText(t *testing.T, f rules.Family) string {
	t.Helper()
	args := []string{"--dry-run", "-f", "-", "--hostname-override", c.objects.node.Name, "--ip-family", f.String()}
	args = append(args, strings.Fields(lastLine(string(c.archive.Comment)))...)
	var stdout, stderr bytes.Buffer
	if status := run(context.Background(), args, bytes.NewReader(section(c.archive, "objects.yaml")), &stdout, &stderr); status == 2 {
		t.Fatalf("%v: %s", args, &stderr)
	}
	return stdout.String()
}
