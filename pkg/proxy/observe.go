package proxy

import (
	"cmp"
	"context"
	"time"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// maxCaused bounds what is kept of one family while its syncs fail.
const maxCaused = 10000

// snapshot returns the state of now and what is wrong with objects, and tells health
// and metrics of it.
func (p *Proxy) snapshot() (*rules.Snapshot, []watch.Problem) {
	caused := p.source.Changes().TakeTriggers() // first, so that what they caused is in the snapshot
	first := p.source.Changes().Counts().First
	snap, problems := p.source.Snapshot()
	for _, f := range p.families {
		if f.since.IsZero() {
			f.since = first
		}
		now := caused[f.family]
		f.caused = append(f.caused, now[:min(len(now), maxCaused-len(f.caused))]...)
	}
	p.health.setNodeLeaving(snap.Node.Leaving)
	p.metrics.snapshot(snap)
	p.board.snapshot(snap)
	return snap, problems
}

// queued tells health and metrics that there is a reason to sync.
func (p *Proxy) queued(now time.Time) {
	p.health.queued(now)
	p.metrics.changes.queued(now)
}

// syncFamily syncs one family, and tells health and metrics how that went.
func (p *Proxy) syncFamily(ctx context.Context, f *familySync, snap *rules.Snapshot) error {
	start, full := time.Now(), f.have == nil || !f.begun // the first one has what was read ahead
	f.begun = true
	f.kernel.begin()
	err := f.sync(ctx, snap)
	f.inStep = err == nil
	now := time.Now()
	f.kernel.end()
	p.metrics.synced(f.family, full, now.Sub(start), err)
	p.metrics.quarantined(f.family, len(f.quarantine.inmates))
	if err != nil {
		p.board.failed(f.family, err)
		return err
	}
	p.board.synced(f, cmp.Or(f.since, start), start, now)
	f.since = time.Time{}
	p.health.synced(f.family, now)
	p.metrics.inForce(f.family, f.builder.Counts())
	p.metrics.programmed(f.family, f.caused, now)
	f.caused = nil
	return nil
}
