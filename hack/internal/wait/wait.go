// Package wait waits, but not longer than a context lasts.
package wait

import (
	"context"
	"time"
)

// Sleep waits for d. It returns early, with an error, if ctx ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
