package proxy

import (
	"slices"
	"sync"
	"time"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// JumpCounts tells how many packets the rules of nat chains have sent on: see
// kernel.JumpCounts.
type JumpCounts interface {
	Each(chain string, f func(to string, packets uint64)) error
	Close()
}

// Live is what the status is told of a family by others than the loop. Its functions
// are called when somebody asks, beside the loop; nil: there is no such thing.
type Live struct {
	Backend kernel.Backend
	// JumpCounts opens the counters of rules; the caller closes them.
	JumpCounts func() (JumpCounts, error)
	// EachFlow goes through conntrack's flows of a protocol.
	EachFlow func(rules.Protocol, func(rules.Flow)) error
}

// board is what the loop hands over to those who ask for the status. All that it
// takes is immutable and was there anyway; who asks does the work.
type board struct {
	started time.Time

	mu       sync.Mutex
	snap     *rules.Snapshot // to be served; nil: not known yet
	problems int
	families map[rules.Family]*familyBoard
}

// familyBoard is about the rules of one family.
type familyBoard struct {
	config  rules.Config
	counts  rules.Counts
	inForce *rules.Snapshot // nil: there was no sync that succeeded
	took    time.Duration   // of the last sync that succeeded
	err     error           // of the last sync; nil: it succeeded
	changes map[serviceName]change
	drift   driftLog
}

// change is when the kernel had a Service's last change, and how long after svcproxy
// had learned of it.
type change struct {
	at   time.Time
	took time.Duration
}

func newBoard() *board {
	return &board{started: time.Now(), families: map[rules.Family]*familyBoard{}}
}

func (b *board) serves(c rules.Config) {
	b.families[c.Family] = &familyBoard{config: c, changes: map[serviceName]change{}, drift: newDriftLog()}
}

// snapshot takes over what is to be served.
func (b *board) snapshot(snap *rules.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.snap = snap
}

func (b *board) setProblems(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = n
}

// failed takes over a sync of a family that did not succeed.
func (b *board) failed(f rules.Family, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.families[f].err = err
}

// synced takes over a sync that succeeded at now and had begun at start. Its oldest
// change had come at since. What the first one brings is no change.
func (b *board) synced(f *familySync, since, start, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.families[f.family]
	if was.inForce != nil && was.inForce != f.inForce {
		come, gone := rules.Changed(was.inForce.Services, f.inForce.Services)
		for _, svc := range gone {
			delete(was.changes, nameOf(svc))
		}
		for _, svc := range come {
			was.changes[nameOf(svc)] = change{now, now.Sub(since)}
		}
	}
	was.config, was.counts, was.inForce = f.config, f.builder.Counts(), f.inForce
	was.took, was.err = now.Sub(start), nil
}

// drifted takes over what others did to a family's rules.
func (b *board) drifted(f rules.Family, found []rules.Drift, by []string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.families[f].drift.add(found, by, now)
}

// view is the board at one moment.
type view struct {
	now, started time.Time
	snap         *rules.Snapshot // never nil
	problems     int
	families     []familyView
}

// familyView is one family's board at one moment.
type familyView struct {
	familyBoard
	board   *familyBoard // for what is looked up
	live    Live
	health  familyHealth
	refused []Quarantined
}

// look returns the board of now, the families in the order of p.families.
func (p *Proxy) look() *view {
	now := time.Now()
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	v := &view{now: now, started: p.board.started, snap: p.board.snap, problems: p.board.problems}
	if v.snap == nil {
		v.snap = &rules.Snapshot{}
	}
	for _, f := range p.families {
		b := p.board.families[f.family]
		one := familyView{familyBoard: *b, board: b, live: f.live, health: p.health.family(f.family)}
		one.drift = b.drift.clone()
		one.changes = nil
		if list := f.quarantine.list.Load(); list != nil {
			one.refused = *list
		}
		v.families = append(v.families, one)
	}
	return v
}

// changeOf returns the last change of a Service in any family; zero: there was none.
func (p *Proxy) changeOf(v *view, n serviceName) change {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	var last change
	for i := range v.families {
		if c := v.families[i].board.changes[n]; c.at.After(last.at) {
			last = c
		}
	}
	return last
}

// inForceOf returns a Service as the family has it in force; nil: it does not.
func (f *familyView) inForceOf(n serviceName) *rules.Service {
	if f.inForce == nil {
		return nil
	}
	return find(f.inForce.Services, n)
}

// find returns the Service of that name; nil: there is none.
func find(services []*rules.Service, n serviceName) *rules.Service {
	i, ok := slices.BinarySearchFunc(services, n, func(s *rules.Service, n serviceName) int { return compareNames(nameOf(s), n) })
	if !ok {
		return nil
	}
	return services[i]
}
