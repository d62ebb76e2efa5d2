package proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// flowTable is a table of flows that a test opens for each clean-up.
type flowTable struct {
	began chan struct{}
	open  chan error // what the clean-up ends with

	mu    sync.Mutex
	flows map[rules.Flow]bool
}

func newFlowTable(flows ...rules.Flow) *flowTable {
	x := &flowTable{began: make(chan struct{}, 100), open: make(chan error), flows: map[rules.Flow]bool{}}
	x.add(flows...)
	return x
}

func (x *flowTable) add(flows ...rules.Flow) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range flows {
		x.flows[f] = true
	}
}

// left returns the number of those of the flows that are there.
func (x *flowTable) left(flows ...rules.Flow) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for _, f := range flows {
		if x.flows[f] {
			n++
		}
	}
	return n
}

func (x *flowTable) DeleteFlows(ctx context.Context, protocol rules.Protocol, stale func(rules.Flow) bool) (int, error) {
	x.began <- struct{}{}
	select {
	case err := <-x.open:
		if err != nil {
			return 0, err
		}
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	n := 0
	for f := range x.flows {
		if f.Protocol == protocol && stale(f) {
			delete(x.flows, f)
			n++
		}
	}
	return n, nil
}

// cluster is a source whose snapshot a test sets.
type cluster struct {
	source
	mu   sync.Mutex
	snap *rules.Snapshot
}

func (c *cluster) Snapshot() (*rules.Snapshot, []watch.Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snap, nil
}

func (c *cluster) set(svcs ...*rules.Service) {
	c.mu.Lock()
	c.snap = &rules.Snapshot{Services: svcs}
	c.mu.Unlock()
	c.changed <- struct{}{}
}

var testVIP = netip.MustParseAddrPort("10.96.0.10:53")

func pod(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 21, 0, byte(n)}), 53)
}

// to is a flow that a pod answers.
func to(n int) rules.Flow { return rules.Flow{Protocol: rules.UDP, Dst: testVIP, From: pod(n)} }

func dns(protocol rules.Protocol, pods ...int) *rules.Service {
	p := rules.ServicePort{Protocol: protocol, Port: 53}
	for _, n := range pods {
		p.Endpoints = append(p.Endpoints, rules.Endpoint{Addr: pod(n), Ready: true, Serving: true})
	}
	return &rules.Service{Namespace: "ns", Name: "dns", ClusterIPs: []netip.Addr{testVIP.Addr()}, Ports: []rules.ServicePort{p}}
}

// quiet is a kernel that takes everything.
type quiet struct{ applied chan struct{} }

func (q quiet) Apply(context.Context, *rules.Plan) error { q.applied <- struct{}{}; return nil }
func (q quiet) Read(context.Context, *rules.Ruleset) (*rules.Ruleset, error) {
	return &rules.Ruleset{}, nil
}
func (q quiet) Interference(context.Context) (kernel.Interference, error) {
	return kernel.Interference{Unsure: true}, nil
}

// cleaning runs a proxy over a table of flows; stop ends it and waits for that.
func cleaning(t *testing.T, table Conntrack, period time.Duration) (c *cluster, applied <-chan struct{}, stop func()) {
	t.Helper()
	c = &cluster{source: source{make(chan struct{}, 1)}}
	k := quiet{make(chan struct{}, 100)}
	p := New(c, []Family{{Config: rules.Config{Family: rules.IPv4, MasqueradeMark: 1}, Kernel: k, Conntrack: table}}, Options{SyncPeriod: period})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return c, k.applied, stop
}

func TestStaleFlowsGoAfterASync(t *testing.T) {
	table := newFlowTable(to(1), to(2))
	c, _, _ := cleaning(t, table, time.Hour)
	c.set(dns(rules.UDP, 1))
	next(t, table.began, "the clean-up after the start")
	table.open <- nil
	c.set(dns(rules.UDP, 3))
	next(t, table.began, "the clean-up after a change")
	if table.left(to(1)) != 1 || table.left(to(2)) != 0 {
		t.Error("after the start the flow that is in order must stay, and only that")
	}
	table.open <- nil
	c.set(dns(rules.UDP, 4))
	next(t, table.began, "one more")
	if table.left(to(1)) != 0 {
		t.Error("the flow to the endpoint that went is there")
	}
}

func TestAChangeOfTCPReadsNoFlows(t *testing.T) {
	table := newFlowTable()
	c, applied, _ := cleaning(t, table, time.Hour)
	c.set(dns(rules.TCP, 1))
	next(t, applied, "the first sync")
	next(t, table.began, "the clean-up after it, since there were no rules before")
	table.open <- nil
	for i := range 4 {
		c.set(dns(rules.TCP, i+2))
		next(t, applied, "a sync")
	}
	time.Sleep(100 * time.Millisecond)
	if len(table.began) != 0 {
		t.Errorf("%d clean-ups", len(table.began))
	}
}

// A slow clean-up stalls no sync; those that come meanwhile share the next one,
// and what each of them left behind goes.
func TestSyncsDoNotWaitForACleanUp(t *testing.T) {
	moved := dns(rules.UDP, 4) // to where it is only for a while
	moved.ClusterIPs = []netip.Addr{testVIP.Addr().Next()}
	there := rules.Flow{Protocol: rules.UDP, Dst: netip.AddrPortFrom(moved.ClusterIPs[0], testVIP.Port()), From: pod(4)}
	table := newFlowTable(to(1), to(2), to(3), to(9), there)
	c, applied, _ := cleaning(t, table, time.Hour)
	c.set(dns(rules.UDP, 1))
	next(t, applied, "the first sync")
	next(t, table.began, "the first clean-up")
	for _, svcs := range [][]*rules.Service{{dns(rules.UDP, 2)}, {moved}, {dns(rules.UDP, 3)}, {}} {
		c.set(svcs...)
		next(t, applied, "a sync during the clean-up")
	}
	for range 2 { // there is room for the second one once the first is taken, after the last of these syncs
		c.changed <- struct{}{}
	}
	table.open <- nil
	next(t, table.began, "the second clean-up")
	table.open <- nil
	select {
	case <-table.began:
		t.Error("a third clean-up")
	case <-time.After(50 * time.Millisecond):
	}
	if n := table.left(to(1), to(2), to(3), to(9), there); n != 0 {
		t.Errorf("%d flows are left", n)
	}
}

// A flow that the rules made after the last sync began is no stale one, although
// the clean-up belongs to the sync before.
func TestFlowsOfTheRulesToComeStay(t *testing.T) {
	table := newFlowTable(to(1), to(2))
	c, applied, _ := cleaning(t, table, time.Hour)
	c.set(dns(rules.UDP, 1))
	next(t, applied, "the first sync")
	next(t, table.began, "the first clean-up")
	c.set(dns(rules.UDP, 1, 2))
	next(t, applied, "a sync with another endpoint")
	table.open <- nil
	next(t, table.began, "the second clean-up")
	if table.left(to(2)) != 1 {
		t.Error("the flow to the new endpoint was removed")
	}
}

func TestAFailedCleanUpIsTriedAgainAndForgetsNothing(t *testing.T) {
	table := newFlowTable(to(1))
	c, _, _ := cleaning(t, table, 20*time.Millisecond)
	c.set(dns(rules.UDP, 1))
	next(t, table.began, "the clean-up after the start")
	table.open <- nil
	c.set()
	for range 3 {
		next(t, table.began, "a clean-up that fails")
		table.open <- errors.New("no such thing in this kernel")
	}
	next(t, table.began, "one that does not")
	table.open <- nil
	time.Sleep(100 * time.Millisecond)
	if len(table.began) != 0 || table.left(to(1)) != 0 {
		t.Errorf("after it: %d more clean-ups, %d flows left", len(table.began), table.left(to(1)))
	}
}

// A client over UDP that began while the rules were missing would send to nobody
// for as long as it sends: the kernel never looks at the rules for it again.
func TestFlowsBegunWithoutRulesGoWhenTheseAreBack(t *testing.T) {
	lost := rules.Flow{Protocol: rules.UDP, Dst: testVIP, From: testVIP}
	table := newFlowTable(to(1))
	c, _, _ := cleaning(t, table, 20*time.Millisecond) // this kernel loses all rules each time
	c.set(dns(rules.UDP, 1))
	next(t, table.began, "the clean-up after the start")
	table.add(lost)
	table.open <- nil
	for range 2 {
		next(t, table.began, "the clean-up after a repair")
		table.open <- nil
	}
	if table.left(lost) != 0 || table.left(to(1)) != 1 {
		t.Errorf("left: %d flows begun without rules, %d in order", table.left(lost), table.left(to(1)))
	}
}

func TestRunEndsWhileACleanUpWaits(t *testing.T) {
	table := newFlowTable()
	c, _, stop := cleaning(t, table, time.Hour)
	c.set(dns(rules.UDP, 1))
	next(t, table.began, "a clean-up")
	stop()
}
