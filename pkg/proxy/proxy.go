// Package proxy keeps the kernel's rules in step with the cluster: it decides
// when to sync, what to do when a sync fails, and tells whether all is well.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// Source hands out the state of the cluster.
type Source interface {
	// Run follows the cluster until ctx ends.
	Run(ctx context.Context) error
	// Changed gets a value after a change, the first one once the source knows
	// everything; several changes may share one value.
	Changed() <-chan struct{}
	// Snapshot returns the state of now and what is wrong with the objects in it.
	Snapshot() (*rules.Snapshot, []watch.Problem)
	// Changes counts the changes of objects.
	Changes() *watch.Changes
}

// Kernel is the tables of one family.
type Kernel interface {
	// Read returns what is there of ours, or of a proxy whose place we take. Chains
	// that equal those of known, which may be nil, are the same ones.
	Read(ctx context.Context, known *rules.Ruleset) (*rules.Ruleset, error)
	// Apply carries out a plan. After an error the tables are in one of the
	// states between the plan's transactions.
	Apply(ctx context.Context, plan *rules.Plan) error
	// Interference tells at little cost what others did since the last Read or Apply.
	Interference(ctx context.Context) (kernel.Interference, error)
}

// Family is one address family that the proxy serves.
type Family struct {
	Config    rules.Config
	Kernel    Kernel
	MaxChains int       // see rules.NewPlan
	Conntrack Conntrack // nil: stale flows are left alone

	// Missing, unless nil, says what the kernel lacks. It is called after a refusal.
	Missing func(context.Context) (rules.Features, error)

	// Ready, unless nil, is called after the first sync that succeeded, and again if
	// the kernel turned out to lack something: for what must not be before the rules
	// are. It gets the configuration that is in force. After an error, which is logged,
	// it is tried again later; the family is served all the same.
	Ready func(rules.Config) error

	// Dropped, unless nil, reads how many forwarded packets the rules have dropped
	// because conntrack calls them INVALID.
	Dropped PacketReader

	Live Live
}

// Options says when to sync, and whom to tell what.
type Options struct {
	// MinSyncPeriod is the least time from the end of one sync to the start of
	// the next. A change after a quiet time is synced at once.
	MinSyncPeriod time.Duration
	// SyncPeriod is how often the kernel is read and compared although nothing
	// changed, unless it is certain that nobody wrote to it. The wait after a failed
	// sync is never longer.
	SyncPeriod time.Duration
	// Started, unless nil, is called once, after the first sync that succeeded.
	Started func()
	// Event, unless nil, is told what the users of a Service should know. It must not
	// block.
	Event func(ServiceEvent)
	// Drifted is called when a read of the kernel finds that somebody else changed our
	// rules, with the number of chains or jumps of each kind; nil: Metrics counts them.
	Drifted func(f rules.Family, t rules.TableName, kind rules.DriftKind, count int)
	// Metrics, unless nil, gets to know how the syncs go.
	Metrics *Metrics
	// Version is that of the program, for the status.
	Version string
}

// Proxy is the loop between a source and the kernel.
type Proxy struct {
	source   Source
	opts     Options
	health   *Health
	metrics  *Metrics
	board    *board
	families []*familySync
	reported map[watch.Problem]bool
}

// New returns a proxy that has done nothing yet.
func New(source Source, families []Family, opts Options) *Proxy {
	p := &Proxy{source: source, opts: opts, metrics: opts.Metrics, board: newBoard()}
	if p.metrics == nil {
		p.metrics = NewMetrics("")
	}
	if opts.Drifted == nil {
		opts.Drifted = p.metrics.Drift
	}
	p.metrics.changes.follow(source.Changes())
	p.health = NewHealth(2*opts.SyncPeriod, p.metrics)
	for _, f := range families {
		p.health.serves(f.Config.Family)
		p.board.serves(f.Config)
		p.families = append(p.families, &familySync{
			family: f.Config.Family, kernel: p.metrics.serves(&f), maxChains: f.MaxChains, readiness: readiness{call: f.Ready},
			quarantine: newQuarantine(f.Config.Family, opts.Event), features: features{probe: f.Missing},
			builder: rules.NewBuilder(f.Config), config: f.Config,
			flows: newFlowCleaner(f.Config, f.Conntrack, p.metrics), drift: drift{count: opts.Drifted, post: p.board.drifted},
			live: f.Live, checks: newServiceHealth(p.health.Healthy, opts.Event),
		})
	}
	return p
}

// Health tells how the syncs go.
func (p *Proxy) Health() *Health { return p.health }

// Run follows the source until ctx ends or the source cannot go on. It leaves
// the rules in place: connections outlive a restart.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer p.cleanFlows(ctx)() // after cancel
	defer cancel()
	defer p.endChecks()
	failed := make(chan error, 1)
	go func() { failed <- p.source.Run(ctx) }()

	if err := p.getToKnow(ctx, failed); err != nil || ctx.Err() != nil {
		return err
	}
	backoff := newBackoff(p.opts.SyncPeriod)
	for {
		p.queued(time.Now())
		wait := p.opts.SyncPeriod
		var again <-chan time.Time
		began := time.Now()
		snap, err := p.sync(ctx)
		p.answerChecks(ctx, snap)
		if err == nil {
			backoff.reset()
			again = p.nextTry()
			if started := p.opts.Started; started != nil {
				p.opts.Started = nil
				started()
			}
		} else if ctx.Err() == nil {
			wait = backoff.next(time.Since(began))
			klog.FromContext(ctx).Error(err, "Sync failed, trying again", "after", wait)
		}
		if err := p.pause(ctx, failed, wait, again); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// pause waits for the next reason to sync: a change, the time to try again what the
// kernel refused, somebody else's writing to the kernel, or the end of wait, after
// which the kernel is not taken at its word where others may have written unnoticed.
// It lasts MinSyncPeriod at least.
func (p *Proxy) pause(ctx context.Context, failed <-chan error, wait time.Duration, again <-chan time.Time) error {
	earliest, end := time.After(p.opts.MinSyncPeriod), time.After(wait)
	look := time.NewTicker(lookPeriod)
	defer look.Stop()
	for waiting := true; waiting; {
		waiting = false
		select {
		case <-p.source.Changed():
			p.queued(time.Now())
		case <-again:
		case <-look.C:
			waiting = !p.disturbed(ctx)
		case <-end:
			p.forgetUnsure(ctx)
		case err := <-failed:
			return stopped(ctx, err)
		case <-ctx.Done():
			return nil
		}
	}
	for early := true; early; {
		select {
		case <-look.C:
			p.disturbed(ctx) // a look may tell only together with the one before
		case <-earliest:
			early = false
		case <-ctx.Done():
			return nil
		}
	}
	p.disturbed(ctx) // changes may come so fast that there was no time to look
	return nil
}

// stopped is the result of a source that ended: no error if it was asked to.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("ended unexpectedly")
	}
	return fmt.Errorf("watch: %w", err)
}

// getToKnow waits until the source knows the cluster, and reads the kernel meanwhile.
// What is the last to come is the kernel's rules, if they are many: until then the rules
// are built that are wanted, so that the first sync finds them done.
func (p *Proxy) getToKnow(ctx context.Context, failed <-chan error) error {
	reading, cancel := context.WithCancel(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.readAhead(reading)
	}()
	defer func() {
		cancel()
		<-read
	}()
	select {
	case <-p.source.Changed():
		p.buildAhead()
		<-read
		p.forgetUnsure(ctx)
		return nil
	case err := <-failed:
		return stopped(ctx, err)
	case <-ctx.Done(): // the source may wait for what does not come, such as the end of its input
		return nil
	}
}

// readAhead reads the kernel. What cannot be read is tried again, and said, by the
// first sync.
func (p *Proxy) readAhead(ctx context.Context) {
	for _, f := range p.families {
		f.have, _ = f.kernel.Read(ctx, nil)
	}
}

// buildAhead builds the rules for the state of now, which the builders keep.
func (p *Proxy) buildAhead() {
	snap, _ := p.source.Snapshot()
	for _, f := range p.families {
		f.builder.Build(snap)
	}
}

// Sync brings the kernel to the state of now, every family as far as it goes.
// It writes nothing where nothing differs.
func (p *Proxy) Sync(ctx context.Context) error {
	_, err := p.sync(ctx)
	return err
}

// sync also returns the state of now.
func (p *Proxy) sync(ctx context.Context) (*rules.Snapshot, error) {
	snap, problems := p.snapshot()
	var errs []error
	for _, f := range p.families {
		if err := p.syncFamily(ctx, f, snap); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.family, err))
		}
		problems = slices.Concat(problems, f.unserved(snap))
	}
	p.report(ctx, problems)
	p.metrics.problems(len(problems))
	p.board.setProblems(len(problems))
	return snap, errors.Join(errs...)
}

// report logs each problem once for as long as it lasts.
func (p *Proxy) report(ctx context.Context, problems []watch.Problem) {
	now := make(map[watch.Problem]bool, len(problems))
	for _, pr := range problems {
		if !p.reported[pr] && !now[pr] {
			klog.FromContext(ctx).Info("Part of an object is left out", "problem", pr.Error())
		}
		now[pr] = true
	}
	p.reported = now
}

// familySync is the state of one family.
type familySync struct {
	family    rules.Family
	kernel    *countedKernel
	maxChains int
	config    rules.Config
	builder   *rules.Builder
	flows     *flowCleaner
	have      *rules.Ruleset // nil: not known, read it
	drift     drift

	begun  bool        // there was a sync
	inStep bool        // the last one succeeded
	caused []time.Time // what the next sync that succeeds puts into force
	since  time.Time   // when the oldest change came that it does; zero: none

	quarantine *quarantine
	features   features
	inForce    *rules.Snapshot // by the last sync that succeeded; nil: there was none
	readiness  readiness
	live       Live
	checks     *serviceHealth
}

func (f *familySync) sync(ctx context.Context, snap *rules.Snapshot) error {
	start := time.Now()
	unsure := f.have == nil || f.inForce == nil // the first sync has what was read ahead
	if f.have == nil {
		if err := f.read(ctx); err != nil {
			return err
		}
	}
	defer f.quarantine.publish()
	if err := f.refitFeatures(ctx); err != nil {
		return err
	}
	inForce := f.quarantine.goal(ctx, snap)
	plan, err := f.write(ctx, compose(snap, inForce))
	if refused(err) != nil {
		klog.FromContext(ctx).V(1).Info("A restore was refused, looking for what is at fault", "family", f.family, "reason", err.Error())
		inForce, err = f.settle(ctx, snap, inForce)
	}
	if err == nil {
		inForce, err = f.retry(ctx, snap, inForce)
	}
	if err != nil {
		return err
	}
	f.inForce, f.drift.overtaken = compose(snap, inForce), 0
	f.flows.done(f.inForce, unsure && !plan.Empty())
	f.getReady(ctx)
	klog.FromContext(ctx).V(2).Info("Synced", "family", f.family, "services", len(snap.Services),
		"transactions", len(plan.Transactions), "jumps", len(plan.Jumps), "took", time.Since(start))
	return nil
}

// write brings the kernel to a snapshot and returns the plan for it.
func (f *familySync) write(ctx context.Context, snap *rules.Snapshot) (*rules.Plan, error) {
	want := f.builder.Build(snap)
	plan := rules.NewPlan(f.have, want, f.maxChains)
	f.drift.sayHeld(ctx, f.have, want)
	f.flows.syncing(snap)
	have := f.have
	if !plan.Empty() {
		f.have = nil
		if err := f.kernel.Apply(ctx, plan); err != nil {
			if r := refused(err); r != nil {
				f.drift.known = plan.After(have, r.Done)
			}
			return plan, err
		}
	}
	f.have = &rules.Ruleset{Family: want.Family, Tables: want.Tables, Jumps: want.Jumps, Held: have.Held}
	return plan, nil
}
