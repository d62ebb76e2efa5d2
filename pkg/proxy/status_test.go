package proxy

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/status"
)

// ask asks the proxy for its status; the answer must be one.
func ask(t *testing.T, p *Proxy, query string) *status.Report {
	t.Helper()
	w := httptest.NewRecorder()
	p.StatusHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/status?"+query, nil))
	var r status.Report
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != http.StatusOK || r.APIVersion != status.APIVersion {
		t.Fatalf("%s: %d %v: %s", query, w.Code, err, w.Body)
	}
	return &r
}

func serviceNames(r *status.Report) string {
	var names []string
	for _, s := range r.Services {
		names = append(names, strings.TrimPrefix(s.Name, "svc-0000"))
	}
	return strings.Join(names, " ")
}

// jumpsOf are counters that a test sets, by "chain to".
type jumpsOf map[string]uint64

func (j jumpsOf) Each(chain string, f func(string, uint64)) error {
	for key, n := range j {
		if from, to, _ := strings.Cut(key, " "); from == chain {
			f(to, n)
		}
	}
	return nil
}

func (jumpsOf) Close() {}

func syncNow(t *testing.T, p *Proxy) {
	t.Helper()
	if err := p.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestStatusBeforeTheFirstSync(t *testing.T) {
	p, _ := proxyOn(newPickyKernel(t), 0, services(3))
	r := ask(t, p, "")
	if len(r.Services) != 0 || *r.Node.Healthy || r.Node.Families[0].Sync.Last != nil {
		t.Errorf("%+v", r)
	}
}

func TestStatusFollowsSyncs(t *testing.T) {
	p, src := proxyOn(newPickyKernel(t), 0, services(3))
	syncNow(t, p)
	r := ask(t, p, "")
	if got := serviceNames(r); got != "0 1 2" {
		t.Errorf("Services %s", got)
	}
	for _, s := range r.Services {
		if e := s.Ports[0].Endpoints; s.Changed != nil || len(e) != 1 || e[0].Shares[0].Wanted != 1 || s.Trouble() {
			t.Errorf("%+v", s)
		}
	}
	svcs := append([]*rules.Service{service(0, 1, 2)}, src.snap.Services[1:]...)
	src.snap = &rules.Snapshot{Services: append(svcs, service(3))}
	before := time.Now()
	syncNow(t, p)
	r = ask(t, p, "sort=changed")
	if got := serviceNames(r); got != "0 3 1 2" {
		t.Errorf("the latest changes first: %s", got)
	}
	for i, s := range r.Services {
		if changed := s.Changed != nil && !s.Changed.At.Before(before) && s.Changed.Seconds >= 0; changed != (i < 2) {
			t.Errorf("%s changed: %+v", s.Name, s.Changed)
		}
	}
	if got := serviceNames(ask(t, p, "sort=endpoints&limit=1")); got != "0" {
		t.Errorf("with the most endpoints: %s", got)
	}
	if got := serviceNames(ask(t, p, "trouble=true")); got != "3" {
		t.Errorf("without endpoints: %s", got)
	}
	src.snap = &rules.Snapshot{Services: src.snap.Services[:2]}
	syncNow(t, p)
	if n := len(p.board.families[rules.IPv4].changes); n != 1 {
		t.Errorf("the changes of %d Services are kept, of which one is left", n)
	}
}

func TestStatusPages(t *testing.T) {
	p, _ := proxyOn(newPickyKernel(t), 0, services(9))
	syncNow(t, p)
	for query, want := range map[string]string{
		"limit=2": "0 1", "limit=2&offset=8": "8", "offset=9": "", "search=00007": "7",
		"service=ns/svc-00003&service=ns/svc-00001": "1 3", "service=ns&limit=1": "0", "service=other": "",
	} {
		r := ask(t, p, query)
		if got := serviceNames(r); got != want || r.Selection.Shown != len(r.Services) || r.Selection.Total != 9 {
			t.Errorf("%s: %q, %+v, want %q", query, got, r.Selection, want)
		}
	}
	if r := ask(t, p, "service=ns/svc-0000x"); len(r.Selection.Unknown) != 1 || len(r.Selection.Unknown[0].Nearest) != 3 {
		t.Errorf("%+v", r.Selection)
	}
	w := httptest.NewRecorder()
	p.StatusHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/status?limit=x", nil))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `limit: "x"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestStatusCounts(t *testing.T) {
	p, _ := proxyOn(newPickyKernel(t), 0, []*rules.Service{service(0, 1), service(1, 1, 2)})
	syncNow(t, p)
	r := ask(t, p, "")
	port := r.Services[1].Ports[0]
	counts := jumpsOf{
		port.Balances[0].Chain + " " + port.Endpoints[0].Chain:                                     3,
		port.Balances[0].Chain + " " + port.Endpoints[1].Chain:                                     1,
		r.Services[0].Ports[0].Balances[0].Chain + " " + r.Services[0].Ports[0].Endpoints[0].Chain: 2,
	}
	live := &p.families[0].live
	live.JumpCounts = func() (JumpCounts, error) { return counts, nil }
	live.EachFlow = func(protocol rules.Protocol, f func(rules.Flow)) error {
		ends := func(to, by string) rules.Flow {
			return rules.Flow{Protocol: protocol, Dst: netip.MustParseAddrPort(to), From: netip.MustParseAddrPort(by)}
		}
		f(ends(port.Addresses[0].Address, port.Endpoints[1].Address))
		f(ends(port.Addresses[0].Address, port.Addresses[0].Address))
		f(ends("10.9.9.9:80", port.Endpoints[1].Address))
		return nil
	}
	r = ask(t, p, "counters=true&flows=true&sort=connections")
	if got := serviceNames(r); got != "1 0" {
		t.Errorf("sorted by connections: %s", got)
	}
	e := r.Services[0].Ports[0].Endpoints
	if *e[0].Shares[0].Measured != 0.75 || *e[0].Shares[0].Connections != 3 || *e[0].Flows != 0 || *e[1].Flows != 1 {
		t.Errorf("%+v", e)
	}
	live.JumpCounts = func() (JumpCounts, error) { return nil, errors.New("not permitted") }
	r = ask(t, p, "counters=true")
	if !strings.Contains(r.Node.Counters, "not permitted") || len(r.Services) != 2 || r.Services[0].Ports[0].Balances[0].Connections != nil {
		t.Errorf("without counters: %+v", r)
	}
}

func TestStatusTellsTrouble(t *testing.T) {
	k := newPickyKernel(t)
	svcs := services(3)
	p, _ := proxyOn(k, 0, svcs)
	k.refuses = rulesOf(svcs[1])
	syncNow(t, p)
	r := ask(t, p, "trouble=true")
	if got := serviceNames(r); got != "1" || len(r.Services[0].Quarantine) != 1 || len(r.Node.Families[0].Refused) != 1 {
		t.Fatalf("in quarantine: %s, %+v", got, r)
	}
	if q := r.Services[0].Quarantine[0]; q.Service != "ns/svc-00001" || q.InForce != "connections are refused" || !strings.Contains(q.Rule, "DNAT") {
		t.Errorf("%+v", q)
	}
	port := ask(t, p, "service=ns/svc-00002").Services[0].Ports[0]
	found := []rules.Drift{
		{Table: rules.Nat, Kind: rules.ChainMissing, Chain: port.Balances[0].Chain}, {Table: rules.Nat, Kind: rules.ChainMissing, Chain: port.Endpoints[0].Chain},
		{Table: rules.Filter, Kind: rules.JumpMissing, Chain: "FORWARD"},
	}
	p.board.drifted(rules.IPv4, found, []string{"nft (pid 7)"}, time.Now())
	r = ask(t, p, "trouble=true&service=ns/svc-00002")
	if d := r.Services[0].Drift; d == nil || d.Count != 2 || d.By[0] != "nft (pid 7)" {
		t.Errorf("drift of the Service: %+v", d)
	}
	if d := r.Node.Families[0].Drift; d.Count != 3 || len(d.Kinds) != 2 || d.Kinds[1] != (status.DriftKind{Table: "nat", Kind: "chain_missing", Count: 2}) {
		t.Errorf("drift of the node: %+v", d)
	}
}

// After a sync that failed the status is that of the last one that did not.
func TestStatusOfFailedSyncs(t *testing.T) {
	k := newPickyKernel(t)
	p, src := proxyOn(k, 0, []*rules.Service{service(0, 1, 2)})
	syncNow(t, p)
	k.fails = []error{errors.New("the lock is held")}
	src.snap = &rules.Snapshot{Services: []*rules.Service{service(0, 2, 3)}}
	if err := p.Sync(t.Context()); err == nil {
		t.Fatal("no failure")
	}
	r := ask(t, p, "")
	if got := r.Node.Families[0].Sync.Error; !strings.Contains(got, "the lock is held") {
		t.Errorf("error %q", got)
	}
	if e := r.Services[0].Ports[0].Endpoints; len(e) != 2 || len(e[0].Shares) != 1 || e[0].Shares[0].Wanted != 0.5 || len(e[1].Shares) != 0 {
		t.Errorf("shares are not those that the kernel gives: %+v", e)
	}
}
