package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// source is a cluster of which a test says when it changed.
type source struct{ changed chan struct{} }

func (s source) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (s source) Changed() <-chan struct{}      { return s.changed }
func (s source) Changes() *watch.Changes       { return &watch.Changes{} }
func (s source) Snapshot() (*rules.Snapshot, []watch.Problem) {
	return &rules.Snapshot{}, nil
}

// fakeKernel takes what it is given, after failing as often as it is told.
type fakeKernel struct {
	failures int
	has      *rules.Ruleset
	ready    chan struct{}
	reads    chan struct{}
	applies  chan *rules.Plan

	mu     sync.Mutex
	others kernel.Interference
	blind  error
}

func (k *fakeKernel) Read(context.Context, *rules.Ruleset) (*rules.Ruleset, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.others = kernel.Interference{}
	k.reads <- struct{}{}
	return k.has, nil
}

// Interference is what a test said others did since the last read.
func (k *fakeKernel) Interference(context.Context) (kernel.Interference, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.others, k.blind
}

// interfere has somebody change what is there.
func (k *fakeKernel) interfere(has *rules.Ruleset, what kernel.Interference) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if has != nil {
		k.has = has
	}
	k.others = what
}

func (k *fakeKernel) Apply(_ context.Context, p *rules.Plan) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.applies <- p
	if k.failures > 0 {
		k.failures--
		return errors.New("refused")
	}
	k.has = rules.Build(&rules.Snapshot{}, rules.Config{Family: rules.IPv4, MasqueradeMark: 1})
	return nil
}

func start(t *testing.T, k *fakeKernel, opts Options) (*Proxy, source) {
	t.Helper()
	k.has = &rules.Ruleset{}
	k.reads, k.applies = make(chan struct{}, 100), make(chan *rules.Plan, 100)
	k.ready = make(chan struct{}, 100)
	ready := func(rules.Config) error { k.ready <- struct{}{}; return nil }
	src := source{make(chan struct{}, 1)}
	p := New(src, []Family{{Config: rules.Config{Family: rules.IPv4, MasqueradeMark: 1}, Kernel: k, Ready: ready}}, opts)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run after its end: %v", err)
		}
	})
	return p, src
}

func next[T any](t *testing.T, c <-chan T, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(5 * time.Second):
		t.Fatalf("waited in vain: %s", what)
	}
}

func TestNothingIsWrittenBeforeTheSourceKnowsEverything(t *testing.T) {
	k := &fakeKernel{}
	p, src := start(t, k, Options{SyncPeriod: time.Hour})
	select {
	case <-k.applies:
		t.Error("the kernel was written")
	case <-time.After(50 * time.Millisecond):
	}
	if code := get(p, "/healthz"); code != http.StatusServiceUnavailable {
		t.Errorf("healthz before the first sync: %d", code)
	}
	src.changed <- struct{}{}
	next(t, k.applies, "the first sync")
}

func TestAFailedSyncIsTriedAgainFromWhatTheKernelHas(t *testing.T) {
	k := &fakeKernel{failures: 1}
	p, src := start(t, k, Options{SyncPeriod: time.Hour})
	src.changed <- struct{}{}
	next(t, k.ready, "two tries, then ready")
	if len(k.reads) != 2 || len(k.applies) != 2 {
		t.Errorf("ready after %d reads and %d writes, want two tries, each with a read", len(k.reads), len(k.applies))
	}
	for range 100 {
		if get(p, "/healthz") == http.StatusOK {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("not healthy after a sync that succeeded")
}

// deaf is a source that does not get to know anything, nor that it is to end.
type deaf struct{ source }

func (deaf) Run(context.Context) error { select {} }

func TestRunEndsWhileTheSourceKnowsNothing(t *testing.T) {
	p := New(deaf{source{make(chan struct{})}}, nil, Options{SyncPeriod: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}

func get(p *Proxy, path string) int {
	w := httptest.NewRecorder()
	p.Health().Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code
}
