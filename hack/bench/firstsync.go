package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"svcproxy/hack/internal/proxies"
)

// errLimit is the reason to give a proxy up at a size.
var errLimit = errors.New("over the time limit")

// tooLongToRepeat is a first sync that is measured once: the spread of something
// that long says little, and costs much.
const tooLongToRepeat = 15 * time.Second

// firstSyncs measures the first sync of all proxies, each in a new network
// namespace, in rounds, and returns the nodes of the last, paused.
func (b *bench) firstSyncs(ctx context.Context, s size) ([]*node, error) {
	last := map[string]*node{}
	nodes := func() []*node {
		var out []*node
		for _, name := range b.opts.proxies {
			if last[name] != nil {
				out = append(out, last[name])
			}
		}
		return out
	}
	slow := map[string]bool{}
	for round := range b.opts.rounds {
		for _, name := range b.opts.proxies {
			if slow[name] {
				continue
			}
			if last[name] != nil {
				last[name].end()
				last[name] = nil
			}
			n, took, err := b.measureFirstSync(ctx, proxies.KindOf(name), s)
			if err != nil {
				return nodes(), fmt.Errorf("%s: %w", name, err)
			}
			last[name], slow[name] = n, took > tooLongToRepeat
			if n != nil && (slow[name] || round == b.opts.rounds-1) {
				if err := n.rest(ctx); err != nil {
					return nodes(), err
				}
			}
			if n != nil {
				n.proxy.Pause()
			}
		}
	}
	return nodes(), nil
}

// measureFirstSync returns no node if the limit was exceeded.
func (b *bench) measureFirstSync(ctx context.Context, k proxies.Kind, s size) (*node, time.Duration, error) {
	n, took, err := b.firstSync(ctx, k, s.services)
	if errors.Is(err, errLimit) {
		b.say("%s, %v: first sync > %v", k.Name, s, b.opts.limit)
		b.results.overLimit(k.Name, s, b.opts.limit.Seconds())
		n.end()
		return nil, b.opts.limit, nil
	}
	if err != nil {
		return n, took, err
	}
	cpu, err := n.proxy.CPU()
	if err != nil {
		return n, took, err
	}
	b.say("%s, %v: first sync %v", k.Name, s, took.Round(time.Millisecond))
	b.results.add(firstSync, k.Name, s, took.Seconds())
	b.results.add(firstSyncCPU, k.Name, s, cpu.Seconds())
	return n, took, nil
}

// firstSync starts a proxy on a new node and waits until connections through its
// Services get somewhere.
func (b *bench) firstSync(ctx context.Context, k proxies.Kind, services int) (*node, time.Duration, error) {
	n, err := b.newNode(ctx, k)
	if err != nil {
		return nil, 0, err
	}
	limited, cancel := context.WithTimeout(ctx, b.opts.limit)
	defer cancel()
	began := time.Now()
	if err := n.start(); err != nil {
		return n, 0, err
	}
	go func() { // who ended will not sync
		select {
		case <-n.proxy.Ended():
			cancel()
		case <-limited.Done():
		}
	}()
	var done time.Time
	err = n.Do(func() error {
		done, err = b.awaitAll(limited, began, sample(b.objects.ips[:services]))
		return err
	})
	switch {
	case ctx.Err() != nil:
		return n, 0, ctx.Err()
	case n.proxy.Alive() != nil:
		return n, 0, n.proxy.Alive()
	case limited.Err() != nil:
		return n, 0, errLimit
	case err != nil:
		return n, 0, err
	}
	return n, done.Sub(began), nil
}

// awaitAll waits for some Services, one after the other: when the last answers
// they have all answered.
func (b *bench) awaitAll(ctx context.Context, began time.Time, ips []netip.Addr) (time.Time, error) {
	pause := func() time.Duration {
		// A hundredth of what it took so far, so that looking costs little.
		return min(max(time.Since(began)/100, 2*time.Millisecond), 50*time.Millisecond)
	}
	anything := func(netip.AddrPort) bool { return true }
	var done time.Time
	var err error
	for _, a := range ips {
		if done, err = b.pods.await(ctx, service(a), pause, anything); err != nil {
			return done, err
		}
	}
	return done, nil
}

// sample is some Services from everywhere among them, the first and the last too.
func sample(ips []netip.Addr) []netip.Addr {
	const count = 50
	if len(ips) <= count {
		return ips
	}
	var out []netip.Addr
	for i := range count {
		out = append(out, ips[i*(len(ips)-1)/(count-1)])
	}
	return out
}
