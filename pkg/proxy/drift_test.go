package proxy

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// healed is what a proxy wants of a cluster without Services.
func healed() *rules.Ruleset {
	return rules.Build(&rules.Snapshot{}, rules.Config{Family: rules.IPv4, MasqueradeMark: 1})
}

// damaged lacks a chain and has a stale one.
func damaged() *rules.Ruleset {
	r := healed()
	nat := *r.Table(rules.Nat)
	nat.Chains = append([]*rules.Chain{{Name: "KUBE-AAA"}}, nat.Chains[1:]...)
	r.Tables = []rules.Table{*r.Table(rules.Filter), nat}
	return r
}

// drifts notes what a proxy says that others changed.
type drifts chan string

func (c drifts) drifted(f rules.Family, t rules.TableName, kind rules.DriftKind, n int) {
	c <- f.String() + " " + string(t) + " " + string(kind)
}

func TestWhatOthersBreakIsSetRightAndCounted(t *testing.T) {
	k, seen := &fakeKernel{}, make(drifts, 100)
	_, src := start(t, k, Options{SyncPeriod: time.Hour, Drifted: seen.drifted})
	src.changed <- struct{}{}
	next(t, k.ready, "the first sync")
	<-k.applies
	k.interfere(damaged(), kernel.Interference{Seen: true, By: []string{"nft (pid 1)"}})
	next(t, k.applies, "to set it right")
	got := []string{<-seen, <-seen}
	slices.Sort(got)
	if want := []string{"IPv4 nat chain_missing", "IPv4 nat chain_stale"}; !slices.Equal(got, want) || len(seen) > 0 {
		t.Errorf("counted %q and %d more, want %q", got, len(seen), want)
	}
}

// Until the first sync the rules may be another proxy's, who may write them.
func TestWritesBeforeTheFirstSyncAreReadAndNotCounted(t *testing.T) {
	k, seen := &fakeKernel{}, make(drifts, 100)
	_, src := start(t, k, Options{SyncPeriod: time.Hour, Drifted: seen.drifted})
	next(t, k.reads, "to read ahead")
	k.interfere(damaged(), kernel.Interference{Seen: true})
	src.changed <- struct{}{}
	next(t, k.reads, "to read again")
	next(t, k.ready, "the first sync")
	if len(seen) > 0 {
		t.Errorf("counted as damage: %s", <-seen)
	}
}

func TestWhatOthersDoToTheirOwnIsReadOnceAndNotWritten(t *testing.T) {
	k, seen := &fakeKernel{}, make(drifts, 100)
	_, src := start(t, k, Options{SyncPeriod: time.Hour, Drifted: seen.drifted})
	src.changed <- struct{}{}
	next(t, k.ready, "the first sync")
	<-k.applies
	<-k.reads
	k.interfere(nil, kernel.Interference{Seen: true})
	next(t, k.reads, "to see whether it is harm")
	time.Sleep(2 * lookPeriod)
	if len(k.reads)+len(k.applies)+len(seen) > 0 {
		t.Errorf("nothing was wrong: %d more reads, %d writes, %d counted", len(k.reads), len(k.applies), len(seen))
	}
}

// The period is for what the kernel does not tell.
func TestAQuietKernelIsReadOnlyWhereItIsUnsure(t *testing.T) {
	for what, others := range map[string]*fakeKernel{
		"sure": {}, "unsure": {others: kernel.Interference{Unsure: true}}, "blind": {blind: errors.New("not this kernel")},
	} {
		t.Run(what, func(t *testing.T) {
			unsure := others.others
			_, src := start(t, others, Options{SyncPeriod: 20 * time.Millisecond})
			src.changed <- struct{}{}
			next(t, others.ready, "the first sync")
			<-others.applies
			<-others.reads
			if what == "sure" {
				time.Sleep(100 * time.Millisecond)
			} else {
				others.interfere(nil, unsure)
				next(t, others.reads, "a periodic read")
			}
			if what == "sure" && len(others.reads) > 0 || len(others.applies) > 0 || len(others.ready) > 0 {
				t.Errorf("nothing differed: %d reads, %d writes, ready again %d times", len(others.reads), len(others.applies), len(others.ready))
			}
		})
	}
}

// Changes that come without a pause leave no time to look, and it is done all the same.
func TestDamageIsFoundWhileChangesCome(t *testing.T) {
	k := &fakeKernel{}
	_, src := start(t, k, Options{SyncPeriod: time.Hour, MinSyncPeriod: lookPeriod / 10})
	src.changed <- struct{}{}
	next(t, k.ready, "the first sync")
	<-k.applies
	done := make(chan struct{})
	defer func() { <-done }()
	stop := time.After(10 * time.Second)
	go func() {
		defer close(done)
		for {
			select {
			case src.changed <- struct{}{}:
			case <-k.applies:
				return
			case <-stop:
				t.Error("waited in vain for damage to be set right")
				return
			}
		}
	}()
	k.interfere(damaged(), kernel.Interference{Seen: true})
}

// lookedAt counts the looks.
type lookedAt struct {
	*fakeKernel
	looks atomic.Int64
}

func (k *lookedAt) Interference(ctx context.Context) (kernel.Interference, error) {
	k.looks.Add(1)
	return k.fakeKernel.Interference(ctx)
}

// What is noticed only by the second of two looks is, while the least period after a
// sync is waited out, although a change has come.
func TestTheLeastPeriodIsNotWaitedOutBlindly(t *testing.T) {
	k, src := &lookedAt{fakeKernel: &fakeKernel{}}, source{make(chan struct{}, 1)}
	p := New(src, []Family{{Config: rules.Config{Family: rules.IPv4, MasqueradeMark: 1}, Kernel: k}}, Options{MinSyncPeriod: 8 * lookPeriod})
	src.changed <- struct{}{}
	if err := p.pause(t.Context(), nil, time.Hour, nil); err != nil {
		t.Fatal(err)
	}
	if looks := k.looks.Load(); looks < 2 {
		t.Errorf("%d looks in %v", looks, 8*lookPeriod)
	}
}

func TestPace(t *testing.T) {
	var p pace
	now := time.Now()
	if !p.allows(now) {
		t.Fatal("the first read has to wait")
	}
	read := func(wrong bool) { p.done(now, time.Second, wrong) }
	read(false)
	if now = now.Add(6 * time.Second); p.allows(now) {
		t.Error("a read of a second that found nothing wrong is followed by another after 6 seconds")
	}
	if now = now.Add(time.Second); !p.allows(now) {
		t.Error("it is followed by none after 7 seconds")
	}
	for i := range maxStreak {
		if read(true); !p.allows(now) {
			t.Fatalf("has to wait after something was wrong %d times", i+1)
		}
	}
	if read(true); p.allows(now) {
		t.Error("goes on and on where somebody insists")
	}
	now = now.Add(time.Hour)
	if read(true); !p.allows(now) {
		t.Error("never forgets")
	}
}

// A write that is refused because of what somebody did a moment before: that is
// found by the read that follows, and is counted.
func TestDamageThatHasAWriteRefusedIsCounted(t *testing.T) {
	k, seen := newPickyKernel(t), make(drifts, 100)
	svc := service(0, 1)
	p, src := proxyOn(k, 0, []*rules.Service{svc})
	p.families[0].drift.count = seen.drifted
	if err := p.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole := k.has
	k.has = &rules.Ruleset{Family: rules.IPv4, Jumps: whole.Jumps, Tables: []rules.Table{*whole.Table(rules.Filter)}}
	src.snap = &rules.Snapshot{Services: []*rules.Service{service(0, 1, 2)}}
	k.fails = []error{&kernel.RestoreError{Family: rules.IPv4, Table: rules.Nat, Exit: 1, Stderr: "no such chain"}}
	if err := p.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 {
		t.Fatalf("counted %d times, want once", len(seen))
	}
	if got, want := <-seen, "IPv4 nat chain_missing"; got != want {
		t.Errorf("counted %q, want %q", got, want)
	}
}

// After a failed write others may take rules away, which is not left until it is time
// to try again.
func TestDamageIsFoundWhileAFailedWriteWaits(t *testing.T) {
	k := &fakeKernel{failures: 1, has: &rules.Ruleset{}, reads: make(chan struct{}, 1), applies: make(chan *rules.Plan, 1)}
	p := New(source{}, []Family{{Config: rules.Config{Family: rules.IPv4, MasqueradeMark: 1}, Kernel: k}}, Options{SyncPeriod: time.Hour})
	if err := p.Sync(t.Context()); err == nil {
		t.Fatal("a write that failed is no error")
	}
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		if err := p.pause(t.Context(), nil, time.Hour, nil); err != nil {
			t.Error(err)
		}
	}()
	time.Sleep(2 * lookPeriod)
	select {
	case <-waited:
		t.Fatal("nothing happened, and the next try came early")
	default:
	}
	k.interfere(damaged(), kernel.Interference{Seen: true})
	next(t, waited, "the end of the pause")
}

func TestBackoff(t *testing.T) {
	b := newBackoff(30 * time.Second)
	for i, want := range []time.Duration{firstRetry, 2 * firstRetry, 4 * firstRetry, 8 * firstRetry, maxRetry, maxRetry} {
		if got := b.next(time.Millisecond); got != want {
			t.Errorf("after failure %d: %v, want %v", i+1, got, want)
		}
	}
	b.next(time.Second)
	if got, want := b.next(time.Second), fruitlessPauses*time.Second; got != want {
		t.Errorf("after a try that took a second: %v, want %v", got, want)
	}
	for range 2 {
		b.next(time.Minute)
	}
	if got, want := b.next(time.Minute), 30*time.Second; got != want {
		t.Errorf("after a try that took a minute: %v, want %v", got, want)
	}
	if b.reset(); b.next(time.Minute) != firstRetry {
		t.Error("after a success it does not begin anew")
	}
}

// flushedKernel is one whose rules somebody changes while it is looked for what made
// the kernel refuse: when it has one more failure to tell.
type flushedKernel struct {
	*pickyKernel
	seen bool
}

func (k *flushedKernel) Read(ctx context.Context, known *rules.Ruleset) (*rules.Ruleset, error) {
	k.seen = false
	return k.pickyKernel.Read(ctx, known)
}

func (k *flushedKernel) Interference(context.Context) (kernel.Interference, error) {
	return kernel.Interference{Seen: k.seen}, nil
}

func (k *flushedKernel) Apply(ctx context.Context, p *rules.Plan) error {
	k.seen = k.seen || len(k.fails) == 1
	return k.pickyKernel.Apply(ctx, p)
}

// The search for what is at fault ends when somebody changes the tables, and the next
// sync reads them; where that goes on and on, the search does too.
func TestNobodyIsSuspectedForWhatOthersDo(t *testing.T) {
	k := &flushedKernel{pickyKernel: newPickyKernel(t)}
	src := &snapshots{mu: &k.mu, snap: &rules.Snapshot{Services: services(3)}, changed: make(chan struct{}, 1)}
	p := New(src, []Family{{Config: testConfig, Kernel: k}}, Options{SyncPeriod: time.Hour})
	if err := p.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	src.snap = &rules.Snapshot{Services: []*rules.Service{service(0, 1, 2), service(1, 1), service(2, 1)}}
	refusal := &kernel.RestoreError{Family: rules.IPv4, Table: rules.Nat, Exit: 1, Stderr: "no such chain"}
	for try := range maxOvertaken + 1 {
		k.fails = []error{refusal, refusal} // the write, and the first step of the search
		if err, given := p.Sync(t.Context()), try < maxOvertaken; (err != nil) != given {
			t.Errorf("try %d: %v, want an error: %t", try+1, err, given)
		}
		if q := p.Quarantined(); len(q) > 0 {
			t.Errorf("try %d: in quarantine: %+v", try+1, q)
		}
	}
	inKernel(t, k.pickyKernel, src.snap.Services)
}
