package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// snapshots is a source whose snapshot a test sets.
type snapshots struct {
	mu      *sync.Mutex
	snap    *rules.Snapshot
	changed chan struct{}
}

func (c *snapshots) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (c *snapshots) Changed() <-chan struct{}      { return c.changed }
func (c *snapshots) Changes() *watch.Changes       { return &watch.Changes{} }
func (c *snapshots) Snapshot() (*rules.Snapshot, []watch.Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snap, nil
}

// How a refusal names what was refused.
const (
	namesAll    = iota // nft: every line
	namesFirst         // a command that reads the line and stops there
	namesCommit        // legacy: the end of the transaction
	namesNone
)

// pickyKernel refuses transactions with certain lines, and what a kernel would.
type pickyKernel struct {
	mu      sync.Mutex // see running
	t       interface{ Errorf(string, ...any) }
	has     *rules.Ruleset
	refuses func(line string) bool
	names   int

	applies, refused, chains int // restores that wrote; that were refused; chains in either
	fails                    []error
	each                     func() // called after each transaction
}

func newPickyKernel(t interface{ Errorf(string, ...any) }) *pickyKernel {
	return &pickyKernel{t: t, has: &rules.Ruleset{Family: rules.IPv4}, refuses: func(string) bool { return false }}
}

func (k *pickyKernel) Read(context.Context, *rules.Ruleset) (*rules.Ruleset, error) {
	return k.has, nil
}

// Interference: nobody else writes.
func (k *pickyKernel) Interference(context.Context) (kernel.Interference, error) {
	return kernel.Interference{}, nil
}

func (k *pickyKernel) Apply(_ context.Context, p *rules.Plan) error {
	if len(k.fails) > 0 {
		err := k.fails[0]
		k.fails = k.fails[1:]
		if err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range p.Transactions {
		k.chains += len(p.Transactions[i].Write)
		if err := k.check(&p.Transactions[i]); err != nil {
			k.refused++
			err.Done = i
			k.has = p.After(k.has, i)
			return err
		}
		k.applies++
		if k.each != nil {
			before := k.has
			k.has = p.After(before, i+1)
			k.each()
			k.has = before
		}
	}
	k.has = p.After(k.has, len(p.Transactions))
	for _, table := range k.has.Tables {
		for _, c := range table.Chains {
			for i := range c.Rules {
				if to := c.Rules[i].Jump(); to != "" && table.Chain(to) == nil {
					k.t.Errorf("%s: %s leads to %s, which is not there", table.Name, c.Name, to)
				}
			}
		}
	}
	return nil
}

func (k *pickyKernel) check(tx *rules.Transaction) *kernel.RestoreError {
	e := &kernel.RestoreError{Family: rules.IPv4, Table: tx.Table, Exit: 1, Stderr: "iptables-restore: line failed"}
	found := false
	for n, line := range strings.Split(string(rules.RenderTransaction(rules.IPv4, tx)), "\n") {
		commit := line == "COMMIT" && found && k.names == namesCommit
		switch bad := k.refuses(line); {
		case bad && k.names == namesAll && e.Line > 0:
			e.More = append(e.More, line)
		case commit, bad && k.names <= namesFirst && e.Line == 0:
			e.Line, e.Text = n+1, line
		}
		found = found || k.refuses(line)
	}
	if !found {
		return nil
	}
	return e
}

// service is a Service with the given endpoints that are not 0.
func service(i int, endpoints ...int) *rules.Service {
	port := rules.ServicePort{Protocol: rules.TCP, Port: 80}
	for _, e := range endpoints {
		if e != 0 {
			addr := netip.AddrFrom4([4]byte{10, byte(20 + e), byte(i >> 8), byte(i)})
			port.Endpoints = append(port.Endpoints, rules.Endpoint{Addr: netip.AddrPortFrom(addr, 8080), Ready: true, Serving: true})
		}
	}
	return &rules.Service{
		Namespace: "ns", Name: fmt.Sprintf("svc-%05d", i), Ports: []rules.ServicePort{port},
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
	}
}

func services(n int) []*rules.Service {
	var out []*rules.Service
	for i := range n {
		out = append(out, service(i, 1))
	}
	return out
}

var testConfig = rules.Config{
	Family: rules.IPv4, MasqueradeMark: 0x4000, NodePorts: rules.NodePortAddresses{Ranges: []netip.Prefix{rules.IPv4.All()}},
}

// proxyOn returns a proxy for the Services on a kernel.
func proxyOn(k *pickyKernel, maxChains int, svcs []*rules.Service) (*Proxy, *snapshots) {
	src := &snapshots{mu: &k.mu, snap: &rules.Snapshot{Services: svcs}, changed: make(chan struct{}, 1)}
	families := []Family{{Config: testConfig, Kernel: k, MaxChains: maxChains}}
	return New(src, families, Options{SyncPeriod: time.Hour, MinSyncPeriod: time.Second}), src
}

// rulesOf tells the lines of the rules that lead a Service's packets to endpoints.
func rulesOf(svc *rules.Service) func(line string) bool {
	return func(line string) bool {
		return strings.Contains(line, `"ns/`+svc.Name) && strings.Contains(line, "DNAT")
	}
}

func anyOf(svcs []*rules.Service, lines func(*rules.Service) func(string) bool) func(string) bool {
	bad := map[string]bool{}
	for _, s := range svcs {
		bad[s.Name] = true
	}
	return func(line string) bool {
		_, after, _ := strings.Cut(line, `"ns/`)
		name, _, _ := strings.Cut(after, " ")
		name = strings.Trim(name, `"`)
		return bad[name] && lines(&rules.Service{Name: name})(line)
	}
}

// inKernel checks that the kernel has exactly the rules for the given Services.
func inKernel(t interface{ Errorf(string, ...any) }, k *pickyKernel, want []*rules.Service) {
	plan := rules.NewPlan(k.has, rules.Build(&rules.Snapshot{Services: want}, testConfig), 0)
	if !plan.Empty() {
		t.Errorf("the kernel has other rules than it should:\n%s", rules.RenderPlan(plan))
	}
}

// served checks that packets to a Service reach its only endpoint.
func served(t interface{ Errorf(string, ...any) }, k *pickyKernel, svc *rules.Service) {
	text := rules.RenderPlan(rules.NewPlan(&rules.Ruleset{Family: rules.IPv4}, k.has, 0))
	tables, err := rules.ParseSave(text, rules.IPv4)
	if err != nil {
		t.Errorf("%v", err)
	}
	fates, err := rules.Walk(tables, rules.Host{}, rules.Packet{
		Protocol: rules.TCP, In: "eth0", Src: netip.MustParseAddrPort("192.0.2.1:4000"), Dst: netip.AddrPortFrom(svc.ClusterIPs[0], 80),
	})
	if want := svc.Ports[0].Endpoints[0].Addr; err != nil || len(fates) != 1 || fates[0].Dst != want {
		t.Errorf("a packet to %s meets %+v, %v, want %s", svc.Name, fates, err, want)
	}
}

func names(list []Quarantined) []string {
	var out []string
	for _, q := range list {
		out = append(out, q.Name)
	}
	return out
}

// Whoever is at fault, however the kernel says it and in whatever parts the rules
// are written: those alone are in quarantine and refuse connections or are served as
// before, all others are served, those that did not change at every moment; and no
// more restores are refused than a search by halves takes.
func TestExactlyTheServicesAtFaultAreInQuarantine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := newPickyKernel(t)
		k.names = rapid.IntRange(namesAll, namesNone).Draw(t, "the kernel names")
		maxChains := rapid.IntRange(0, 12).Draw(t, "chains in a transaction")
		svcs := services(rapid.IntRange(1, 60).Draw(t, "services"))
		p, src := proxyOn(k, maxChains, svcs)
		bad, taken := map[int]bool{}, map[int]bool{}
		for round := range 2 {
			// In the second round some Services change, and some more are at fault; the
			// proxy may have been started anew.
			if round > 0 && rapid.Bool().Draw(t, "restart") {
				p, src = proxyOn(k, maxChains, svcs)
				taken = map[int]bool{}
			}
			var culprits, unchanged []*rules.Service
			for range rapid.IntRange(0, 3).Draw(t, "culprits") {
				bad[rapid.IntRange(0, len(svcs)-1).Draw(t, "culprit")] = true
			}
			want := slices.Clone(svcs)
			for i := range svcs {
				if round > 0 && (bad[i] || rapid.Bool().Draw(t, "changes")) {
					svcs[i] = service(i, 1, 2)
				}
				switch want[i] = svcs[i]; {
				case !bad[i]:
					taken[i] = true
				case taken[i]: // its first endpoint was served before, and need not be written
					want[i] = service(i, 1)
				default:
					want[i] = rules.WithoutEndpoints(svcs[i])
				}
				if bad[i] {
					culprits = append(culprits, svcs[i])
				} else if round > 0 && len(svcs[i].Ports[0].Endpoints) == 1 {
					unchanged = append(unchanged, svcs[i])
				}
			}
			src.snap = &rules.Snapshot{Services: slices.Clone(svcs)}
			if k.each = nil; len(unchanged) > 0 {
				k.each = func() { served(t, k, unchanged[k.applies%len(unchanged)]) }
			}
			k.refuses = anyOf(culprits, rulesOf)
			k.refused = 0
			if err := p.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			inKernel(t, k, want)
			var guilty []string
			for _, s := range culprits {
				guilty = append(guilty, s.Name)
			}
			if got := names(p.Quarantined()); !slices.Equal(got, guilty) {
				t.Fatalf("in quarantine: %v, want %v", got, guilty)
			}
			// Two refusals before the search, and the rungs of the stand-ins.
			if most := 2 + (len(guilty))*(bits.Len(uint(len(svcs)))+4); k.refused > most {
				t.Fatalf("%d restores were refused for %d culprits among %d, want at most %d", k.refused, len(guilty), len(svcs), most)
			}
		}
	})
}

// A first sync of many Services is not loaded again and again to find one.
func TestASearchAmongManyServicesIsBounded(t *testing.T) {
	const (
		n          = 5000
		toEndpoint = "-j DNAT --to-destination EP$"
		toService  = "-A KUBE-.*-d IP/32 .*-j KUBE-SVC-"
	)
	for _, test := range []struct {
		name             string
		names, maxChains int
		rule             string // of the Service at fault
		refused          int
		loads            float64
	}{
		{"nft", namesAll, 1000, toEndpoint, 3, 2},
		{"nft without a line", namesNone, 1000, toEndpoint, 14, 2},
		{"nft without a line, in the list of Services", namesNone, 1000, toService, 16, 2},
		{"legacy, line", namesFirst, 0, toEndpoint, 3, 4},
		{"legacy, commit", namesCommit, 0, toEndpoint, 16, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newPickyKernel(t)
			svcs := services(n)
			p, _ := proxyOn(k, test.maxChains, svcs)
			bad := svcs[n*2/3]
			place := strings.NewReplacer("EP", bad.Ports[0].Endpoints[0].Addr.String(), "IP", bad.ClusterIPs[0].String())
			rule := regexp.MustCompile(place.Replace(test.rule))
			k.names, k.refuses = test.names, rule.MatchString
			if err := p.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := names(p.Quarantined()); !slices.Equal(got, []string{bad.Name}) {
				t.Errorf("in quarantine: %v", got)
			}
			loads := float64(k.chains) / float64(len(k.has.Table(rules.Nat).Chains))
			t.Logf("%d restores taken, %d refused, %.1f times the chains", k.applies, k.refused, loads)
			if k.refused > test.refused || loads > test.loads {
				t.Errorf("want at most %d refused and %.0f times", test.refused, test.loads)
			}
		})
	}
}

func TestARefusalOfNoServiceIsAnError(t *testing.T) {
	for names := namesAll; names <= namesNone; names++ {
		k := newPickyKernel(t)
		k.names = names
		k.refuses = func(line string) bool { return strings.Contains(line, "MASQUERADE") }
		p, _ := proxyOn(k, 0, services(1000))
		if err := p.Sync(t.Context()); refused(err) == nil {
			t.Errorf("names %d: %v, want the refusal", names, err)
		}
		if len(p.Quarantined()) > 0 || k.refused > 3 {
			t.Errorf("names %d: %d in quarantine after %d refusals, want none after three at most", names, len(p.Quarantined()), k.refused)
		}
	}
}

// Where the kernel refuses every Service, each sync does a bounded part of the work.
func TestTheSearchGoesOnInTheNextSync(t *testing.T) {
	for names := namesAll; names <= namesNone; names++ {
		k := newPickyKernel(t)
		svcs := services(300)
		k.names, k.refuses = names, func(line string) bool { return strings.Contains(line, "DNAT") }
		p, _ := proxyOn(k, 0, svcs)
		syncs, err := 0, errors.New("not tried")
		for ; err != nil && syncs < 300; syncs++ {
			k.refused = 0
			err = p.Sync(t.Context())
			if k.refused > maxRefusals+1 {
				t.Fatalf("names %d: %d refusals in one sync", names, k.refused)
			}
		}
		t.Logf("names %d: %d syncs", names, syncs)
		if err != nil || len(p.Quarantined()) != len(svcs) {
			t.Errorf("names %d: %d in quarantine after %d syncs: %v", names, len(p.Quarantined()), syncs, err)
		}
	}
}

// A rule of somebody else leads to a chain that is to go, so that it cannot. That is
// no Service's fault and keeps none from being served.
func TestADeletionThatIsRefusedKeepsNoChangeBack(t *testing.T) {
	for _, maxChains := range []int{0, 2} {
		k := newPickyKernel(t)
		svcs := services(3)
		p, src := proxyOn(k, maxChains, svcs)
		if err := p.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		k.refuses = func(line string) bool { return strings.HasPrefix(line, "-X") }
		src.snap = &rules.Snapshot{Services: []*rules.Service{service(0, 1, 2), svcs[2]}}
		if err := p.Sync(t.Context()); refused(err) == nil || len(p.Quarantined()) > 0 {
			t.Errorf("in quarantine %v, error %v", names(p.Quarantined()), err)
		}
		left := rules.NewPlan(k.has, rules.Build(src.snap, testConfig), 0)
		for _, tx := range left.Transactions {
			if len(tx.Write) > 0 {
				t.Errorf("not written:\n%s", rules.RenderPlan(left))
			}
		}
	}
}

func TestARefusalThatPassesPutsNobodyIntoQuarantine(t *testing.T) {
	k := newPickyKernel(t)
	svcs := services(20)
	p, _ := proxyOn(k, 0, svcs)
	k.fails = []error{&kernel.RestoreError{Stderr: "iptables-restore: No chain/target/match by that name."}}
	if err := p.Sync(t.Context()); err != nil || len(p.Quarantined()) > 0 {
		t.Errorf("%v in quarantine, %v", names(p.Quarantined()), err)
	}
	inKernel(t, k, svcs)
}

func TestWhatIsNoRefusalIsAnErrorAtOnce(t *testing.T) {
	k := newPickyKernel(t)
	p, _ := proxyOn(k, 0, services(20))
	busy := &kernel.RestoreError{Exit: 4, Stderr: "Another app is currently holding the xtables lock. Stopped waiting after 5s."}
	k.fails = []error{busy}
	if err := p.Sync(t.Context()); !errors.Is(err, busy) || k.applies > 0 {
		t.Errorf("got %v and %d restores, want the error and none", err, k.applies)
	}
}

// A Service that was served goes on as it was, less the endpoints that are gone.
func TestAServiceInQuarantineIsServedAsBefore(t *testing.T) {
	k := newPickyKernel(t)
	svcs := services(3)
	svcs[1] = service(1, 1, 2)
	p, src := proxyOn(k, 0, slices.Clone(svcs))
	if err := p.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.refuses = func(line string) bool { return strings.Contains(line, "recent") }
	changed := service(1, 2, 3)
	changed.AffinitySeconds = 600
	src.snap = &rules.Snapshot{Services: []*rules.Service{svcs[0], changed, svcs[2]}}
	if err := p.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	inKernel(t, k, []*rules.Service{svcs[0], service(1, 2), svcs[2]})
	if got := p.families[0].quarantine.unserved(src.snap); got != src.snap {
		t.Error("for health checks it counts as not served")
	}

	// Another address: what it had belongs to others now.
	moved := *changed
	moved.ClusterIPs = []netip.Addr{netip.MustParseAddr("10.96.9.9")}
	src.snap = &rules.Snapshot{Services: []*rules.Service{svcs[0], &moved, svcs[2]}}
	if err := p.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	inKernel(t, k, []*rules.Service{svcs[0], rules.WithoutEndpoints(&moved), svcs[2]})
	if got := p.families[0].quarantine.unserved(src.snap); len(got.Services[1].Ports[0].Endpoints) > 0 {
		t.Error("for health checks it counts as served")
	}
	if list := p.Quarantined(); len(list) != 1 || !strings.Contains(list[0].Line, "recent") || list[0].Port != "ns/svc-00001" {
		t.Errorf("listed as %+v", list)
	}
}

// A Service of which no rule at all is taken has none, and the others do.
func TestAServiceMayHaveNoRulesAtAll(t *testing.T) {
	k := newPickyKernel(t)
	svcs := services(3)
	k.refuses = func(line string) bool { return strings.Contains(line, "svc-00001") }
	p, _ := proxyOn(k, 0, svcs)
	if err := p.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	inKernel(t, k, []*rules.Service{svcs[0], svcs[2]})
	k.refuses = func(string) bool { return false }
	p.families[0].quarantine.inmates[nameOf(svcs[1])].tried = time.Time{}
	if err := p.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	inKernel(t, k, svcs)
}

// running starts a proxy in a bubble of time and ends it with the test. Everything
// that both look at is the test's, but while it sleeps, when what is due happens.
func running(t *testing.T, k *pickyKernel, p *Proxy, src *snapshots) (sleep func(time.Duration)) {
	k.mu.Lock()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		k.mu.Unlock()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	src.changed <- struct{}{}
	return func(d time.Duration) {
		k.mu.Unlock()
		time.Sleep(d)
		synctest.Wait()
		k.mu.Lock()
	}
}

func TestAServiceInQuarantineIsTriedAgainLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newPickyKernel(t)
		svcs := services(50)
		p, src := proxyOn(k, 0, svcs)
		var events []ServiceEvent
		p.families[0].quarantine.event = func(e ServiceEvent) {
			k.mu.Lock()
			defer k.mu.Unlock()
			events = append(events, e)
		}
		k.refuses = anyOf(svcs[7:9], rulesOf)
		sleep := running(t, k, p, src)
		sleep(time.Second / 2)
		first := k.refused
		if got := len(p.Quarantined()); got != 2 || len(events) != 2 || !events[0].Warning {
			t.Fatalf("%d in quarantine, events %+v", got, events)
		}
		for _, test := range []struct {
			after time.Duration
			most  int // for each Service
		}{{8 * time.Second, 3}, {10 * time.Minute, 10}, {10 * time.Hour, 132}} {
			sleep(test.after)
			if got := (k.refused - first) / 2; got > test.most || got < test.most/2 {
				t.Errorf("after %v: %d tries of each, want about %d", test.after, got, test.most)
			}
		}
		if !p.Health().Healthy() {
			t.Error("not healthy, and all others are served")
		}
		refused := k.refused
		k.refuses = func(string) bool { return false }
		sleep(longestWait)
		if got := p.Quarantined(); len(got) > 0 || k.refused != refused || len(events) != 4 || events[3].Warning {
			t.Errorf("the kernel takes all: in quarantine %v, events %+v", names(got), events)
		}
		inKernel(t, k, svcs)
	})
}

// One that changes with every sync keeps nobody from being served, and has a
// restore refused now and then only.
func TestAServiceThatChangesAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newPickyKernel(t)
		svcs := services(20)
		p, src := proxyOn(k, 0, svcs)
		k.refuses = rulesOf(svcs[3])
		sleep := running(t, k, p, src)
		sleep(time.Minute)
		refused := k.refused
		for i := range 300 {
			now := slices.Clone(src.snap.Services)
			now[3], now[5] = service(3, 1+i%3), service(5, 1+i%2)
			src.snap = &rules.Snapshot{Services: now}
			src.changed <- struct{}{}
			sleep(2 * time.Second)
			want := slices.Clone(now)
			want[3] = rules.WithoutEndpoints(now[3])
			inKernel(t, k, want)
		}
		if got := k.refused - refused; got > 61 || got < 10 {
			t.Errorf("%d restores refused in 300 changes and 10 minutes, want one in 10 seconds", got)
		}
		k.refuses = func(string) bool { return false }
		src.snap = &rules.Snapshot{Services: services(20)}
		src.changed <- struct{}{}
		sleep(changedWait + time.Second)
		if got := p.Quarantined(); len(got) > 0 {
			t.Errorf("put right by a change, still in quarantine: %v", names(got))
		}
	})
}

func TestAServiceThatIsGoneLeavesQuarantine(t *testing.T) {
	k := newPickyKernel(t)
	svcs := services(3)
	p, src := proxyOn(k, 0, svcs)
	k.refuses = rulesOf(svcs[1])
	if err := p.Sync(t.Context()); err != nil || len(p.Quarantined()) != 1 {
		t.Fatal(err, p.Quarantined())
	}
	expect(t, p.metrics, 1, "svcproxy_quarantined_services", "IPv4")
	src.snap = &rules.Snapshot{Services: []*rules.Service{svcs[0], svcs[2]}}
	if err := p.Sync(t.Context()); err != nil || len(p.Quarantined()) != 0 {
		t.Error(err, p.Quarantined())
	}
	expect(t, p.metrics, 0, "svcproxy_quarantined_services", "IPv4")
	inKernel(t, k, src.snap.Services)
}

// What the kernel lacks is found out when it refuses, and once it has it again the
// rules use it.
func TestMissingFeaturesAreDoneWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newPickyKernel(t)
		svcs := services(3)
		svcs[1] = service(1, 1, 2)
		p, src := proxyOn(k, 0, svcs)
		lacks, asked := rules.FeatureStatistic, 0
		p.families[0].features.probe = func(context.Context) (rules.Features, error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			asked++
			return lacks, nil
		}
		k.refuses = func(line string) bool { return lacks != 0 && strings.Contains(line, "statistic") }
		ready := 0
		p.families[0].readiness.call = func(rules.Config) error {
			k.mu.Lock()
			defer k.mu.Unlock()
			ready++
			return nil
		}
		sleep := running(t, k, p, src)
		sleep(time.Second / 2)
		if k.refused != 1 || asked != 1 || len(p.Quarantined()) > 0 || ready != 1 {
			t.Errorf("%d refused, asked %d times, in quarantine %v, ready %d times", k.refused, asked, names(p.Quarantined()), ready)
		}
		lacks = 0
		sleep(longestWait)
		inKernel(t, k, svcs)
		if ready != 2 {
			t.Errorf("made ready %d times, want once more for the other configuration", ready)
		}
		was := asked
		sleep(10 * time.Hour)
		if asked != was {
			t.Error("asked although nothing is missing")
		}
	})
}

func TestWithoutDNATThereIsNoService(t *testing.T) {
	k := newPickyKernel(t)
	p, _ := proxyOn(k, 0, services(3))
	p.families[0].features.probe = func(context.Context) (rules.Features, error) { return rules.FeatureDNAT, nil }
	k.refuses = func(line string) bool { return strings.Contains(line, "DNAT") }
	if err := p.Sync(t.Context()); err == nil || len(p.Quarantined()) > 0 || k.refused != 1 {
		t.Errorf("%v, in quarantine %v, %d refused", err, names(p.Quarantined()), k.refused)
	}
}
