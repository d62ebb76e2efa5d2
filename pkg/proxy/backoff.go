package proxy

import "time"

// backoff doubles from firstRetry up to a bound.
type backoff struct {
	bound, wait time.Duration
}

const firstRetry = 250 * time.Millisecond

func newBackoff(bound time.Duration) *backoff { return &backoff{bound: bound} }

func (b *backoff) reset() { b.wait = 0 }

// next returns how long to wait after one more failure in a row.
func (b *backoff) next() time.Duration {
	b.wait = min(max(2*b.wait, firstRetry), b.bound)
	return b.wait
}
