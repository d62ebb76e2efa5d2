package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"svcproxy/pkg/rules"
)

// Conntrack is the kernel's flows of one family.
type Conntrack interface {
	// DeleteFlows deletes the flows over a protocol that stale picks and returns how
	// many these were. After an error some may be left.
	DeleteFlows(ctx context.Context, protocol rules.Protocol, stale func(rules.Flow) bool) (int, error)
}

// flowCleaner removes the stale flows of one family after syncs. A table may be
// large, so no sync waits for it, and several may share one clean-up.
type flowCleaner struct {
	family    rules.Family
	cfg       rules.Config
	conntrack Conntrack
	metrics   *Metrics
	wake      chan struct{}

	mu     sync.Mutex
	coming *rules.Snapshot   // whose rules are in force, or partly so
	synced []*rules.Snapshot // not noted in tracker yet
	mended bool              // one of them did; see done

	// The rest belongs to whoever cleans.
	tracker *rules.FlowTracker
	failing bool
	latest  *rules.Snapshot
	valid   *rules.Frontends // of latest
}

// newFlowCleaner returns the cleaner of a family; without conntrack it does nothing.
func newFlowCleaner(cfg rules.Config, c Conntrack, m *Metrics) *flowCleaner {
	return &flowCleaner{family: cfg.Family, cfg: cfg, conntrack: c, metrics: m, wake: make(chan struct{}, 1), tracker: rules.NewFlowTracker(cfg)}
}

// syncing notes that a sync begins.
func (c *flowCleaner) syncing(snap *rules.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coming = snap
}

// done notes that a sync has succeeded. It has mended the kernel if that had not
// what it was thought to have, or if nothing was known about it: rules may have been
// missing.
func (c *flowCleaner) done(snap *rules.Snapshot, mended bool) {
	if c.conntrack == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.synced = append(c.synced, snap)
	c.mended = c.mended || mended
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run cleans up after syncs until ctx ends.
func (c *flowCleaner) run(ctx context.Context) {
	for {
		select {
		case <-c.wake:
			c.clean(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// clean removes what the syncs so far made stale. What fails is tried again after
// the next sync.
func (c *flowCleaner) clean(ctx context.Context) {
	synced, mended := c.take()
	for _, snap := range synced {
		c.tracker.Synced(snap)
	}
	if mended {
		c.tracker.Repaired()
	}
	stale := c.tracker.Stale()
	if stale == nil {
		return
	}
	start, log := time.Now(), klog.FromContext(ctx)
	n, err := c.delete(ctx, stale)
	c.metrics.conntrack.cleaned(c.family, time.Since(start), n)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		c.failing = false
		c.tracker.Cleaned()
		log.V(2).Info("Removed stale flows", "family", c.family, "flows", n, "took", time.Since(start))
	case !c.failing:
		c.failing = true
		log.Error(err, "Stale flows may be left, trying again after each sync", "family", c.family)
	}
}

func (c *flowCleaner) delete(ctx context.Context, stale *rules.StaleFlows) (int, error) {
	deleted := 0
	var errs []error
	for _, protocol := range stale.Protocols() {
		n, err := c.conntrack.DeleteFlows(ctx, protocol, func(f rules.Flow) bool { return stale.Has(f) && !c.served(f) })
		deleted, errs = deleted+n, append(errs, err)
	}
	return deleted, errors.Join(errs...)
}

func (c *flowCleaner) take() (synced []*rules.Snapshot, mended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	synced, mended = c.synced, c.mended
	c.synced, c.mended = nil, false
	return synced, mended
}

// served reports whether the flow is in order by the rules that are being
// written: they may make flows while those that the last sync left behind are
// still looked for.
func (c *flowCleaner) served(f rules.Flow) bool {
	c.mu.Lock()
	coming := c.coming
	c.mu.Unlock()
	if c.latest != coming {
		c.latest, c.valid = coming, rules.NewFrontends(coming, c.cfg)
	}
	return c.valid.Serves(f)
}

// cleanFlows starts to clean up after syncs until ctx ends; wait waits for the
// end of that.
func (p *Proxy) cleanFlows(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	for _, f := range p.families {
		wg.Go(func() { f.flows.run(ctx) })
	}
	return wg.Wait
}

// CleanFlows removes the flows that the last Sync made stale. Run does so by
// itself.
func (p *Proxy) CleanFlows(ctx context.Context) {
	for _, f := range p.families {
		f.flows.clean(ctx)
	}
}
