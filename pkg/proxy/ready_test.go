package proxy

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"svcproxy/pkg/rules"
)

// Somebody may hold what has to be made ready, or may not have set it up yet.
func TestReadinessIsTriedUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newPickyKernel(t)
		svcs := services(1)
		p, src := proxyOn(k, 0, svcs)
		tries := 0
		p.families[0].readiness.call = func(rules.Config) error {
			k.mu.Lock()
			defer k.mu.Unlock()
			if tries++; tries < 3 {
				return errors.New("not yet")
			}
			return nil
		}
		sleep := running(t, k, p, src)
		sleep(shortestWait / 2)
		if tries != 1 {
			t.Fatalf("tried %d times after the first sync, want once", tries)
		}
		inKernel(t, k, svcs)
		sleep(4 * shortestWait)
		if tries != 3 {
			t.Errorf("tried %d times, want until it succeeded: 3", tries)
		}
		sleep(10 * time.Hour)
		if tries != 3 {
			t.Errorf("tried %d times although it had succeeded", tries)
		}
	})
}
