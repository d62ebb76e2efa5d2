package watch

import "sync/atomic"

// signal is a channel with one slot: however often it is raised, its reader sees
// one value. Before it is opened, raising it does nothing.
type signal struct {
	c      chan struct{}
	opened *atomic.Bool
}

func newSignal() signal { return signal{c: make(chan struct{}, 1), opened: new(atomic.Bool)} }

// open lets values through and raises the first one.
func (s signal) open() {
	s.opened.Store(true)
	s.raise()
}

func (s signal) raise() {
	if !s.opened.Load() {
		return
	}
	select {
	case s.c <- struct{}{}:
	default:
	}
}
