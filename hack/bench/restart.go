package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"svcproxy/hack/internal/wait"
)

// timeRestarts measures svcproxy's start on a node whose rules are right: until
// it says that it is healthy, and how many commands that write it ran.
func (b *bench) timeRestarts(ctx context.Context, s size, nodes []*node) error {
	for range b.opts.rounds {
		for _, n := range nodes {
			if !n.kind.Ours {
				continue
			}
			if err := b.timeRestart(ctx, s, n); err != nil {
				return fmt.Errorf("%s: restart: %w", n.kind.Name, err)
			}
		}
	}
	return nil
}

func (b *bench) timeRestart(ctx context.Context, s size, n *node) error {
	if err := n.wake(ctx); err != nil {
		return err
	}
	n.proxy.Stop(syscall.SIGTERM)
	if err := n.tools.keep(true); err != nil {
		return err
	}
	began := time.Now()
	if err := n.start(); err != nil {
		return err
	}
	err := n.Do(func() error {
		for !healthy() {
			if err := firstError(n.proxy.Alive(), wait.Sleep(ctx, 5*time.Millisecond)); err != nil {
				return err
			}
			if time.Since(began) > b.opts.limit {
				return errLimit
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.results.add(restart, n.kind.Name, s, time.Since(began).Seconds())
	if err := n.rest(ctx); err != nil {
		return err
	}
	n.proxy.Pause()
	all, err := n.tools.take()
	b.results.add(restartRuns, n.kind.Name, s, float64(len(all)))
	return err
}
