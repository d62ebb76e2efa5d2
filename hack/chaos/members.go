package main

import (
	"slices"
	"sync"
	"time"
)

// grace is how long after a pod has left a Service connections may still get to it:
// pods that are to end go on serving for a while, 30 seconds by default.
const grace = 5 * time.Second

// members are the pods behind a Service, by the addresses that they answer with.
type members struct {
	mu   sync.Mutex
	left map[string]time.Time // when each one left; zero: it is in
}

// join is called before pods are written as endpoints.
func (m *members) join(pods []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left == nil {
		m.left = map[string]time.Time{}
	}
	for _, p := range pods {
		m.left[p] = time.Time{}
	}
}

// leave is called when nobody but these pods is an endpoint any more.
func (m *members) leave(but []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, at := range m.left {
		if at.IsZero() && !slices.Contains(but, p) {
			m.left[p] = time.Now()
		}
	}
}

// serves reports whether a pod was right for a connection that began at a moment, at
// most so long after it had left, and if not whether it was so before.
func (m *members) serves(pod string, began time.Time, grace time.Duration) (right, once bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	left, once := m.left[pod]
	return once && (left.IsZero() || began.Before(left.Add(grace))), once
}
