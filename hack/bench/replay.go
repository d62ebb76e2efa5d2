package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"svcproxy/hack/internal/wait"
)

// timeReplay restores once more what svcproxy wrote for a change and for the
// change back, without it: no proxy that writes these lines can be faster.
func (b *bench) timeReplay(ctx context.Context, s size, n *node) error {
	if !n.kind.Ours {
		return nil
	}
	for range b.opts.changes {
		for i, all := range n.replay {
			took, err := b.timeRestore(ctx, s, n, all, pod([]int{podB, podA}[i]))
			if err != nil {
				return err
			}
			b.results.add(bareRestore, n.kind.Name, s, took.Seconds())
			// The kernel still clears up behind a transaction when it is
			// done, and makes the next one wait for that.
			if err := wait.Sleep(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// timeRestore returns the time until the change is seen as timeChanges sees it;
// among many endpoints, until the command that brings it is done.
func (b *bench) timeRestore(ctx context.Context, s size, n *node, all []written, to netip.AddrPort) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, b.opts.limit)
	defer cancel()
	var seen <-chan sight
	if s.endpoints == 2 {
		seen = b.lookFor(ctx, n, to)
	}
	var done time.Time
	began := time.Now()
	err := n.Do(func() error {
		for _, w := range all {
			if err := n.restore(ctx, w); err != nil {
				return err
			}
			if done.IsZero() && w.brings(to.Addr()) {
				done = time.Now()
			}
		}
		return nil
	})
	if err != nil {
		cancel()
	}
	if seen != nil {
		found := <-seen
		done, err = found.at, firstError(err, found.err)
	}
	return done.Sub(began), err
}

// restore runs one command again, in the network namespace of the thread.
func (n *node) restore(ctx context.Context, w written) error {
	cmd := exec.CommandContext(ctx, filepath.Join(n.tools.Real, w.args[0]), w.args[1:]...)
	cmd.Stdin, cmd.Env = bytes.NewReader(w.input), append(os.Environ(), n.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", w.args, err, out)
	}
	return nil
}
