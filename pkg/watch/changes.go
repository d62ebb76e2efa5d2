package watch

import (
	"sync"
	"time"

	"svcproxy/pkg/rules"
)

// Changes counts the changes of objects, and keeps what caused those of
// EndpointSlices and when. It is safe for concurrent use; the zero value is ready.
type Changes struct {
	start int64 // microseconds since 1970; what was caused before took its time elsewhere

	mu       sync.Mutex
	counts   ChangeCounts
	triggers map[trigger][]int64
	held     int // in triggers
}

// ChangeCounts is how many changes there were. Those of an object that leave what
// counts of it as it was are not among them.
type ChangeCounts struct {
	Services, EndpointSlices               uint64    // since the start
	PendingServices, PendingEndpointSlices uint64    // since the last snapshot
	First                                  time.Time // when the first one of any object came since then; zero: none did
	Last                                   time.Time // when the last one of any object came; zero: none did
}

// trigger says whose endpoints were changed.
type trigger struct {
	service key
	family  rules.Family
}

// maxTriggers bounds what is kept while no sync succeeds.
const maxTriggers = 10000

func newChanges() *Changes { return &Changes{start: time.Now().UnixMicro()} }

// Counts returns the counts of now.
func (c *Changes) Counts() ChangeCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

// TakeTriggers returns when the changes of endpoints that came since the last call
// were caused, as the annotation endpoints.kubernetes.io/last-change-trigger-time
// says. What is taken before a snapshot has its effect in that snapshot.
func (c *Changes) TakeTriggers() map[rules.Family][]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[rules.Family][]time.Time{}
	for t, at := range c.triggers {
		for _, micros := range at {
			out[t.family] = append(out[t.family], time.UnixMicro(micros))
		}
	}
	c.triggers, c.held = nil, 0
	return out
}

// other notes a change of an object that is not counted.
func (c *Changes) other() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.came()
}

// came notes when a change came. The caller holds mu.
func (c *Changes) came() {
	c.counts.Last = time.Now()
	if c.counts.First.IsZero() {
		c.counts.First = c.counts.Last
	}
}

func (c *Changes) service() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.came()
	c.counts.Services++
	c.counts.PendingServices++
}

// slice notes a slice that came or changed. before is what it was; nil if it is new.
func (c *Changes) slice(k key, s, before *endpointSlice) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.countSlice()
	f, ok := sliceFamily(s, before)
	if !ok || s.triggered <= c.start || c.held >= maxTriggers {
		return
	}
	if c.triggers == nil {
		c.triggers = map[trigger][]int64{}
	}
	t := trigger{k, f}
	c.triggers[t] = append(c.triggers[t], s.triggered)
	c.held++
}

// sliceGone notes that a slice went. What its Service's slices were changed by is
// forgotten, as in kube-proxy: the annotation says nothing about deletions.
func (c *Changes) sliceGone(k key, s *endpointSlice) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.countSlice()
	if f, ok := sliceFamily(s, nil); ok {
		t := trigger{k, f}
		c.held -= len(c.triggers[t])
		delete(c.triggers, t)
	}
}

func (c *Changes) countSlice() {
	c.came()
	c.counts.EndpointSlices++
	c.counts.PendingEndpointSlices++
}

// seen notes that a snapshot has all changes.
func (c *Changes) seen() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.PendingServices, c.counts.PendingEndpointSlices, c.counts.First = 0, 0, time.Time{}
}

// sliceFamily returns the family of a slice; false if neither version of it has
// an address, and so no rule of any family changes.
func sliceFamily(s, before *endpointSlice) (rules.Family, bool) {
	for _, v := range []*endpointSlice{s, before} {
		if v == nil {
			continue
		}
		for i := range v.endpoints {
			if a := v.endpoints[i].addr; a.IsValid() {
				return rules.FamilyOf(a), true
			}
		}
	}
	return 0, false
}
