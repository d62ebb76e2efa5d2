package proxy

import "time"

// backoff is how long to wait after a sync that failed: twice as long each time. What
// made it fail may pass at any moment, and then nothing should wait long.
type backoff struct {
	bound, wait time.Duration
}

const (
	firstRetry = 250 * time.Millisecond
	maxRetry   = 4 * time.Second // unless tries take so long that this would cost too much
)

func newBackoff(bound time.Duration) *backoff { return &backoff{bound: bound} }

func (b *backoff) reset() { b.wait = 0 }

// next returns how long to wait after one more failure in a row, which took so long.
func (b *backoff) next(took time.Duration) time.Duration {
	most := min(max(maxRetry, fruitlessPauses*took), b.bound)
	b.wait = min(max(2*b.wait, firstRetry), most)
	return b.wait
}
