// Package packets sends real packets through the rules of the real command, from
// every kind of place to every kind of Service, and compares what becomes of
// them with what the walker says.
package packets

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

const serverPort = 8080

func TestPacketsFareAsTheWalkerSays(t *testing.T) {
	kerneltest.NeedRoot(t)
	bin := filepath.Join(t.TempDir(), "svcproxy")
	kerneltest.Run(t, "", "go", "build", "-o", bin, "../../cmd/svcproxy")
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			n := newNetwork(t, "svcproxy-packets-"+backend+"-")
			n.serve("local", serverPort)
			n.serve("remote", serverPort)
			n.load(bin, backend)
			for _, f := range rules.Families() {
				t.Run(f.String(), func(t *testing.T) { n.compare(t, backend, f) })
			}
			t.Run("CVE-2020-8558", func(t *testing.T) { n.checkGuard(t, backend) })
		})
	}
}

// load runs svcproxy on the node, once.
func (n *network) load(bin, backend string) {
	cmd := exec.Command("ip", "netns", "exec", n.namespace("node"), bin, "--once", "-f", "testdata/services.yaml",
		"--hostname-override", "node", "--cluster-cidr", "10.21.0.0/16,fd00:10:21::/48", "--iptables-backend", backend)
	cmd.Env = append(cmd.Environ(), "XTABLES_LOCKFILE="+filepath.Join(n.t.TempDir(), "xtables.lock"))
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("svcproxy: %v\n%s", err, out)
	}
}

// tables reads back what the kernel has.
func (n *network) tables(t *testing.T, backend string, f rules.Family) []rules.Table {
	t.Helper()
	tool := "iptables-" + backend + "-save"
	if f == rules.IPv6 {
		tool = "ip6tables-" + backend + "-save"
	}
	out, err := exec.Command("ip", "netns", "exec", n.namespace("node"), tool).Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	if !strings.Contains(string(out), "-p sctp") {
		t.Error("the rules for SCTP were not loaded")
	}
	tables, err := rules.ParseSave(out, f)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// clients is how many clients of one place are at work at a time.
const clients = 6

// compare sends every packet from every place.
func (n *network) compare(t *testing.T, backend string, f rules.Family) {
	tables := n.tables(t, backend, f)
	to := destinations(t, f)
	var packets, connections atomic.Int64
	var wg sync.WaitGroup
	for _, from := range n.places(f) {
		work := make(chan destination, len(to))
		for _, d := range to {
			if !d.addr.Addr().IsLoopback() || from.host == "node" {
				work <- d
			}
		}
		close(work)
		for range clients {
			wg.Go(func() {
				n.inside(from.host, func() {
					for d := range work {
						c := comparison{n: n, t: t, from: from, to: d}
						connections.Add(int64(c.run(tables)))
						packets.Add(1)
					}
				})
			})
		}
	}
	wg.Wait()
	t.Logf("%d kinds of packets, %d connections", packets.Load(), connections.Load())
}

// place is a client.
type place struct {
	host string
	src  netip.Addr
}

func (n *network) places(f rules.Family) []place {
	var out []place
	for _, h := range n.hosts {
		for _, a := range h.addrs {
			if rules.FamilyOf(a) == f {
				out = append(out, place{h.name, a})
			}
		}
	}
	return out
}

// comparison is one kind of packet.
type comparison struct {
	n    *network
	t    *testing.T
	from place
	to   destination
}

// run compares the fates that the walker gives with those that are seen and
// returns the number of connections made.
func (c *comparison) run(tables []rules.Table) int {
	src := c.from.src
	if c.to.addr.Addr().IsLoopback() {
		src = c.to.addr.Addr()
	}
	fates, err := rules.Walk(tables, rules.Host{Addresses: c.n.hosts["node"].addrs}, rules.Packet{
		FromNode: c.from.host == "node", In: c.n.hosts[c.from.host].link, Protocol: c.to.protocol,
		Src: netip.AddrPortFrom(src, 40000), Dst: c.to.addr,
	})
	if err != nil {
		c.errorf("%v", err)
		return 0
	}
	seen := map[outcome]int{}
	tries, wait := c.tries(fates), patience
	if slices.ContainsFunc(fates, c.silent) {
		wait = patienceForDrops
	}
	for range tries {
		seen[try(string(c.to.protocol), src, c.to.addr, wait)]++
	}
	if c.to.affinity {
		c.checkAffinity(seen)
	}
	for o := range seen {
		if !slices.ContainsFunc(fates, func(f rules.Fate) bool { return c.agrees(f, src, o) }) {
			c.errorf("seen: %s; the walker says %+v", o, fates)
		}
	}
	for _, f := range fates {
		met := func(o outcome) bool { return c.agrees(f, src, o) }
		if !c.to.affinity && !slices.ContainsFunc(slices.Collect(keys(seen)), met) {
			c.errorf("never seen in %d tries: %+v; seen: %v", tries, f, seen)
		}
	}
	return tries
}

// tries makes it less likely than 1 to 10^9 that one of two endpoints is missed.
func (c *comparison) tries(fates []rules.Fate) int {
	if len(fates) > 1 {
		return 31
	}
	return 1
}

func keys(m map[outcome]int) func(func(outcome) bool) {
	return func(yield func(outcome) bool) {
		for o := range m {
			if !yield(o) {
				return
			}
		}
	}
}

// silent reports whether no answer comes of a fate: nobody listens but at the
// endpoints.
func (c *comparison) silent(f rules.Fate) bool {
	return f.Verdict == rules.Drop || f.Verdict == rules.Accept && f.Dst == c.to.addr && f.Dst.Port() != serverPort
}

// agrees reports whether an outcome is what a fate leads to.
func (c *comparison) agrees(f rules.Fate, src netip.Addr, o outcome) bool {
	switch {
	case f.Verdict == rules.Reject:
		return o.refused
	case f.Verdict == rules.Drop:
		return !o.refused && !o.server.IsValid()
	case c.silent(f):
		return !o.server.IsValid() // though its host may refuse
	case f.Masqueraded:
		return o.server == f.Dst && slices.Contains(c.n.hosts["node"].addrs, o.source)
	}
	return o.server == f.Dst && o.source == src
}

// checkAffinity: whoever came once stays where he came.
func (c *comparison) checkAffinity(seen map[outcome]int) {
	if len(seen) != 1 {
		c.errorf("with affinity a client got to several places: %v", seen)
	}
}

func (c *comparison) errorf(format string, args ...any) {
	c.t.Errorf("%s %s from %s (%s): %s", c.to.protocol, c.to.addr, c.from.host, c.from.src, fmt.Sprintf(format, args...))
}
