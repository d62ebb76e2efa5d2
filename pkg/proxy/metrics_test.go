package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// told returns the value of a metric with the given values of labels, in the
// order of their names: of a histogram how many observations; false if there is none.
func told(t *testing.T, m *Metrics, name string, labels ...string) (float64, bool) {
	t.Helper()
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, one := range f.GetMetric() {
			var values []string
			for _, l := range one.GetLabel() {
				values = append(values, l.GetValue())
			}
			if f.GetName() == name && fmt.Sprint(values) == fmt.Sprint(labels) {
				return one.GetCounter().GetValue() + one.GetGauge().GetValue() + float64(one.GetHistogram().GetSampleCount()), true
			}
		}
	}
	return 0, false
}

func expect(t *testing.T, m *Metrics, want float64, name string, labels ...string) {
	t.Helper()
	if got, ok := told(t, m, name, labels...); !ok || got != want {
		t.Errorf("%s%v is %v (there: %v), want %v", name, labels, got, ok, want)
	}
}

func TestMetricsOfFailedSyncs(t *testing.T) {
	k, m := &fakeKernel{failures: 1}, NewMetrics("test")
	_, src := start(t, k, Options{SyncPeriod: time.Hour, Metrics: m})
	if _, ok := told(t, m, "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "IPv4"); ok {
		t.Error("a success before the first sync")
	}
	src.changed <- struct{}{}
	next(t, k.ready, "two tries, then ready")
	src.changed <- struct{}{}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if n, _ := told(t, m, "kubeproxy_sync_proxy_rules_duration_seconds", "IPv4"); n == 3 {
			break
		}
	}
	expect(t, m, 1, "kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "IPv4")
	expect(t, m, 0, "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total", "IPv4")
	expect(t, m, 2, "kubeproxy_sync_full_proxy_rules_duration_seconds", "IPv4") // the first one and the one after it, which had to read
	want := rules.NewBuilder(rules.Config{Family: rules.IPv4, MasqueradeMark: 1})
	want.Build(&rules.Snapshot{})
	expect(t, m, float64(want.Counts().NatRules), "kubeproxy_sync_proxy_rules_iptables_total", "IPv4", "nat")
	expect(t, m, 0, "kubeproxy_sync_proxy_rules_iptables_last", "IPv4", "nat") // the last one found all in order
}

func TestAPartialSyncThatFails(t *testing.T) {
	m := NewMetrics("test")
	m.synced(rules.IPv6, false, time.Second, errors.New("refused"))
	expect(t, m, 1, "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total", "IPv6")
	expect(t, m, 1, "kubeproxy_sync_partial_proxy_rules_duration_seconds", "IPv6")
	if _, ok := told(t, m, "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "IPv6"); ok {
		t.Error("a failure counts as success")
	}
}

func TestMetricsOfAPlan(t *testing.T) {
	m := NewMetrics("test")
	chain := func(rulesIn int) *rules.Chain { return &rules.Chain{Rules: make([]rules.Rule, rulesIn)} }
	plan := &rules.Plan{Transactions: []rules.Transaction{
		{Table: rules.Nat, Write: []*rules.Chain{chain(2), chain(3)}}, {Table: rules.Filter, Write: []*rules.Chain{chain(1)}},
		{Table: rules.Nat, Write: []*rules.Chain{chain(4)}, Delete: []string{"x"}},
	}}
	result := error(nil)
	k := m.serves(&Family{Config: rules.Config{Family: rules.IPv4}, Kernel: planned{&result}})
	expectAfter := func(transactions, chains, nat, filter, failures float64) {
		t.Helper()
		expect(t, m, transactions, "svcproxy_transactions_total", "IPv4", "nat")
		expect(t, m, chains, "svcproxy_chains_written_total", "IPv4", "nat")
		expect(t, m, nat, "kubeproxy_sync_proxy_rules_iptables_last", "IPv4", "nat")
		expect(t, m, filter, "kubeproxy_sync_proxy_rules_iptables_last", "IPv4", "filter")
		expect(t, m, failures, "kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "IPv4")
	}
	sync := func(plans int) {
		k.begin()
		for range plans {
			_ = k.Apply(context.Background(), plan)
		}
		k.end()
	}
	sync(1)
	expectAfter(2, 4, 9, 1, 0)
	sync(0)
	expectAfter(2, 4, 0, 0, 0)
	sync(2)
	expectAfter(6, 12, 18, 2, 0)
	result = &kernel.RestoreError{Done: 2} // the first two are in the kernel
	sync(1)
	expectAfter(7, 14, 5, 1, 1)
	result = errors.New("no such command")
	sync(1)
	expectAfter(7, 14, 0, 0, 2)
}

// planned is a kernel that a test tells what to answer.
type planned struct{ result *error }

func (planned) Read(context.Context, *rules.Ruleset) (*rules.Ruleset, error) {
	return &rules.Ruleset{}, nil
}
func (p planned) Apply(context.Context, *rules.Plan) error { return *p.result }
func (planned) Interference(context.Context) (kernel.Interference, error) {
	return kernel.Interference{}, nil
}

func TestRecorders(t *testing.T) {
	m := NewMetrics("v1")
	m.serves(&Family{Config: rules.Config{Family: rules.IPv4}})
	for _, kind := range rules.DriftKinds() {
		expect(t, m, 0, "svcproxy_drift_total", "IPv4", string(kind), "filter")
	}
	m.Drift(rules.IPv4, rules.Nat, rules.ChainMissing, 3)
	m.Drift(rules.IPv4, rules.Nat, rules.ChainMissing, 1)
	m.quarantined(rules.IPv6, 5)
	expect(t, m, 4, "svcproxy_drift_total", "IPv4", "chain_missing", "nat")
	expect(t, m, 5, "svcproxy_quarantined_services", "IPv6")
	expect(t, m, 1, "svcproxy_build_info", "v1")
}

// What endpoints were changed by is told when the rules have it, after however
// many failures.
func TestProgrammingLatencyOutlivesFailures(t *testing.T) {
	k, m := &fakeKernel{failures: 1, has: &rules.Ruleset{}}, NewMetrics("test")
	k.reads, k.applies, k.ready = make(chan struct{}, 9), make(chan *rules.Plan, 9), make(chan struct{}, 9)
	p := New(source{}, []Family{{Config: rules.Config{Family: rules.IPv4, MasqueradeMark: 1}, Kernel: k}}, Options{Metrics: m})
	p.families[0].caused = []time.Time{time.Now().Add(-3 * time.Second), time.Now().Add(time.Hour)}
	if err := p.Sync(context.Background()); err == nil {
		t.Fatal("the kernel refuses nothing")
	}
	expect(t, m, 0, "kubeproxy_network_programming_duration_seconds", "IPv4")
	for range 2 {
		if err := p.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, m, 2, "kubeproxy_network_programming_duration_seconds", "IPv4")
	h := histogramOf(t, m, "kubeproxy_network_programming_duration_seconds")
	if sum := h.GetSampleSum(); sum < 3 || sum > 60 || h.GetBucket()[0].GetCumulativeCount() != 1 {
		t.Errorf("%v seconds in all, want 3 and a cause that is yet to come as 0", sum)
	}
	if h.GetZeroThreshold() == 0 {
		t.Error("no native histogram")
	}
}

func histogramOf(t *testing.T, m *Metrics, name string) *dto.Histogram {
	t.Helper()
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetHistogram()
		}
	}
	t.Fatalf("no %s", name)
	return nil
}

func TestDroppedPackets(t *testing.T) {
	m := NewMetrics("test")
	const name = "kubeproxy_iptables_ct_state_invalid_dropped_packets_total"
	if _, ok := told(t, m, name); ok {
		t.Error("told although nothing is dropped")
	}
	count, reads, broken := uint64(7), 0, error(nil)
	read := func(context.Context) (uint64, error) { reads++; return count, broken }
	m.packets.follow(read)
	m.packets.follow(func(context.Context) (uint64, error) { return 100, nil })
	expect(t, m, 107, name)
	count = 9
	expect(t, m, 107, name)
	if reads != 1 {
		t.Errorf("two scrapes at once read %d times", reads)
	}
	later := func() {
		for _, p := range m.packets.dropped {
			p.asked = p.asked.Add(-packetsEvery)
		}
	}
	later()
	expect(t, m, 109, name)
	broken = errors.New("locked")
	later()
	expect(t, m, 109, name)
	broken, count = nil, 2 // the rule was written anew
	later()
	expect(t, m, 111, name)
}

func TestRequestsToTheAPIServer(t *testing.T) {
	m := NewMetrics("test")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	host := strings.TrimPrefix(srv.URL, "http://")
	client := &http.Client{Transport: m.Transport(http.DefaultTransport)}
	resp, err := client.Get(srv.URL + "/api/v1/services")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	srv.Close()
	if resp, err = client.Get(srv.URL); err == nil {
		_ = resp.Body.Close()
		t.Fatal("an answer of a server that is gone")
	}
	expect(t, m, 1, "rest_client_requests_total", "418", host, "GET")
	expect(t, m, 1, "rest_client_requests_total", "<error>", host, "GET")
	expect(t, m, 2, "rest_client_request_duration_seconds", host, "GET")
}
