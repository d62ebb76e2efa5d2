package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"time"

	"svcproxy/hack/internal/wait"
)

// gap is the time between two changes: no proxy then waits for its least period.
func (b *bench) gap() time.Duration { return b.opts.minSync + 300*time.Millisecond }

// timeChanges measures changes in turns of all proxies. A turn begins with a
// change that does not count, and ends with the endpoints that it began with.
func (b *bench) timeChanges(ctx context.Context, s size, nodes []*node) error {
	rounds := b.opts.rounds
	if s.endpoints != 2 {
		rounds = 1 // it is the CPU time alone, of all changes of a turn
	}
	for range rounds {
		for _, n := range nodes {
			if err := b.turn(ctx, s, n); err != nil {
				return fmt.Errorf("%s: change an endpoint: %w", n.kind.Name, err)
			}
			if err := b.timeReplay(ctx, s, n); err != nil {
				return fmt.Errorf("%s: replay: %w", n.kind.Name, err)
			}
		}
	}
	for _, n := range nodes {
		if r := b.results[key{change, n.kind.Name, s}]; r != nil {
			b.say("%s, %v: one change %.1f ms", n.kind.Name, s, 1e3*r.median())
		}
	}
	return nil
}

func (b *bench) turn(ctx context.Context, s size, n *node) error {
	if err := n.wake(ctx); err != nil {
		return err
	}
	defer n.proxy.Pause()
	if _, err := b.timeChange(ctx, s, n, pod(podB)); err != nil {
		return err
	}
	before, err := n.proxy.CPU()
	if err != nil {
		return err
	}
	for i := range b.opts.changes {
		took, err := b.timeChange(ctx, s, n, pod([]int{podA, podB}[i%2]))
		if err != nil {
			return err
		}
		if s.endpoints == 2 {
			b.results.add(change, n.kind.Name, s, took.Seconds())
		}
	}
	after, err := n.proxy.CPU()
	if err != nil {
		return err
	}
	b.results.add(changeCPU, n.kind.Name, s, (after-before).Seconds()/float64(b.opts.changes))
	rss, err := n.proxy.RSS()
	b.results.add(memory, n.kind.Name, s, float64(rss))
	return err
}

// timeChange changes the endpoint and connects until a connection gets to the
// new one. Among many endpoints it would rarely be its turn: then this only
// waits until the proxy must be done.
func (b *bench) timeChange(ctx context.Context, s size, n *node, to netip.AddrPort) (time.Duration, error) {
	if s.endpoints != 2 {
		_, err := b.setEndpoint(ctx, to)
		usual := time.Duration(b.results[key{change, n.kind.Name, s}].median() * float64(time.Second))
		return 0, firstError(err, wait.Sleep(ctx, b.gap()+2*usual))
	}
	ctx, cancel := context.WithTimeout(ctx, b.opts.limit)
	defer cancel()
	seen := b.lookFor(ctx, n, to)
	heard, err := b.setEndpoint(ctx, to)
	if err != nil {
		cancel()
		<-seen
		return 0, err
	}
	found := <-seen
	if found.err != nil {
		return 0, firstError(n.proxy.Alive(), found.err)
	}
	return found.at.Sub(heard), wait.Sleep(ctx, b.gap())
}

// sight is when a connection got to an endpoint.
type sight struct {
	at  time.Time
	err error
}

// lookFor connects through the first Service until a connection gets there.
func (b *bench) lookFor(ctx context.Context, n *node, to netip.AddrPort) <-chan sight {
	seen := make(chan sight, 1)
	go func() {
		var found sight
		found.err = n.Do(func() (err error) {
			found.at, err = b.pods.await(ctx, service(b.objects.ips[0]), func() time.Duration { return 500 * time.Microsecond },
				func(p netip.AddrPort) bool { return p == to })
			return err
		})
		seen <- found
	}()
	return seen
}

// setEndpoint changes the endpoint, and returns when the event of that came.
func (b *bench) setEndpoint(ctx context.Context, to netip.AddrPort) (time.Time, error) {
	for len(b.changes) > 0 {
		<-b.changes // a new watch begins with what is there
	}
	if err := b.objects.setEndpoint(ctx, to); err != nil {
		return time.Time{}, err
	}
	return b.heard(ctx, to)
}

// keepChanges keeps what each proxy writes for a change. That takes a little
// time, so what is timed otherwise is timed without. Among many endpoints it is
// the only way to see when the kernel has the change.
func (b *bench) keepChanges(ctx context.Context, s size, nodes []*node) error {
	rounds := 1
	if s.endpoints != 2 {
		rounds = b.opts.rounds
	}
	for range rounds {
		for _, n := range nodes {
			if err := b.keepChange(ctx, s, n); err != nil {
				return fmt.Errorf("%s: keep a change: %w", n.kind.Name, err)
			}
		}
	}
	return nil
}

func (b *bench) keepChange(ctx context.Context, s size, n *node) error {
	if err := firstError(n.wake(ctx), n.rest(ctx)); err != nil {
		return err
	}
	defer n.proxy.Pause()
	if err := n.tools.keep(true); err != nil {
		return err
	}
	n.replay = nil
	for _, to := range []netip.AddrPort{pod(podB), pod(podA)} {
		heard, err := b.setEndpoint(ctx, to)
		if err != nil {
			return err
		}
		all, seen, err := n.tools.await(ctx, to.Addr(), b.opts.limit)
		if err != nil {
			return firstError(n.proxy.Alive(), err)
		}
		if s.endpoints != 2 {
			b.results.add(change, n.kind.Name, s, seen.Sub(heard).Seconds())
		}
		if err := wait.Sleep(ctx, b.gap()); err != nil {
			return err
		}
		rest, err := n.tools.take()
		if err != nil {
			return err
		}
		b.recordInput(s, n, append(all, rest...))
	}
	return n.tools.keep(false)
}

func (b *bench) recordInput(s size, n *node, all []written) {
	bytes := 0
	for _, w := range all {
		bytes += len(w.input)
	}
	b.results.add(changeInput, n.kind.Name, s, float64(bytes))
	b.results.add(changeRuns, n.kind.Name, s, float64(len(all)))
	n.replay = append(n.replay, all)
}

// await returns what was written up to the command that brought an address.
func (t *tools) await(ctx context.Context, a netip.Addr, patience time.Duration) ([]written, time.Time, error) {
	var all []written
	for end := time.Now().Add(patience); time.Now().Before(end); {
		news, err := t.take()
		if err != nil {
			return nil, time.Time{}, err
		}
		all = append(all, news...)
		for _, w := range news {
			if w.brings(a) {
				return all, time.Now(), nil
			}
		}
		if err := wait.Sleep(ctx, 500*time.Microsecond); err != nil {
			return nil, time.Time{}, err
		}
	}
	return nil, time.Time{}, fmt.Errorf("nothing with %v was written in %v", a, patience)
}

// brings reports whether an address is in the input.
func (w *written) brings(a netip.Addr) bool {
	for rest := w.input; ; {
		_, after, found := bytes.Cut(rest, []byte(a.String()))
		if !found {
			return false
		}
		if len(after) == 0 || after[0] < '0' || after[0] > '9' {
			return true
		}
		rest = after
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
