package main

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// stormFaults are more changes than there should be.
func stormFaults() []*fault {
	return []*fault{
		{name: "endpoint-storm", make: endpointStorm,
			how: "for 10 seconds some 1,000 endpoints a second are replaced by others: 100 updates of EndpointSlices, each of about ten endpoints, as far as the API server takes them"},
		{name: "service-storm", make: serviceStorm,
			how: "for 10 seconds 20 Services a second come, with their endpoints, and as many go"},
	}
}

func endpointStorm(ctx context.Context, s *scene) error {
	return s.storm(ctx, 100, func(ctx context.Context, i int) error {
		s.services.changing.Lock()
		pods := s.services.pods(crowdSize)
		s.services.changing.Unlock()
		return s.services.move(ctx, crowdName(i%crowds), pods)
	})
}

func serviceStorm(ctx context.Context, s *scene) error {
	return s.storm(ctx, 40, func(ctx context.Context, i int) error {
		s.services.changing.Lock()
		defer s.services.changing.Unlock()
		if i%2 == 0 {
			return s.services.come(ctx)
		}
		return s.services.goAway(ctx)
	})
}

// storm does something so often a second, by several workers; the i-th time is always
// the same worker's modulo their number.
func (s *scene) storm(ctx context.Context, often int, do func(context.Context, int) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.long(10*time.Second, 2*time.Second))
	defer cancel()
	limit := rate.NewLimiter(rate.Limit(often), 1)
	var workers sync.WaitGroup
	failed := make(chan error, crowds)
	for w := range crowds {
		workers.Go(func() {
			for i := w; limit.Wait(ctx) == nil; i += crowds {
				if err := do(context.WithoutCancel(ctx), i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(failed)
	return <-failed
}
