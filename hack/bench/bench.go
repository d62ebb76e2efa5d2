package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"svcproxy/hack/internal/proxies"
)

// bench is a run: what there is in the namespaces, and what came out so far.
type bench struct {
	opts    *options
	stderr  io.Writer
	began   time.Time
	objects *objects
	pods    *pods
	changes <-chan event
	results results

	netns int              // how many there were
	bare  *netns           // without rules
	one   map[string]*node // those that know one Service, by proxy
}

func newBench(ctx context.Context, opts *options, stderr io.Writer) (*bench, error) {
	b := &bench{opts: opts, stderr: stderr, began: time.Now(), results: results{}, one: map[string]*node{}}
	most := max(1, slices.Max(append([]int{1}, opts.services...)))
	var err error
	if b.objects, err = newObjects(ctx, opts.bin, most); err != nil {
		return nil, fmt.Errorf("start a control plane: %w", err)
	}
	if b.pods, err = listen(); err != nil {
		return nil, err
	}
	if b.bare, err = b.newNetns(ctx); err != nil {
		return nil, err
	}
	if err := b.objects.scale(ctx, 1); err != nil {
		return nil, err
	}
	b.changes, err = b.objects.watchSlice(ctx, sliceName(0, 0))
	return b, err
}

// run measures all sizes: those of one Service first, since Services are only added.
func (b *bench) run(ctx context.Context) error {
	if err := b.learnOne(ctx); err != nil {
		return fmt.Errorf("one Service: %w", err)
	}
	for _, n := range b.opts.endpoints {
		if err := b.objects.spread(ctx, n); err != nil {
			return err
		}
		if err := b.measure(ctx, size{1, n}); err != nil {
			return fmt.Errorf("%d endpoints: %w", n, err)
		}
	}
	if err := b.objects.gather(ctx); err != nil {
		return err
	}
	for _, n := range b.opts.services {
		b.say("writing %d Services", n)
		if err := b.objects.scale(ctx, n); err != nil {
			return err
		}
		if err := b.measure(ctx, size{n, 2}); err != nil {
			return fmt.Errorf("%d Services: %w", n, err)
		}
	}
	return nil
}

// learnOne lets each proxy write the rules of one Service and ends it. The nodes
// stay, to be compared with those of more Services at the same time.
func (b *bench) learnOne(ctx context.Context) error {
	for _, name := range b.opts.proxies {
		n, _, err := b.firstSync(ctx, proxies.KindOf(name), 1)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := n.rest(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		n.proxy.Stop(killed)
		b.one[name] = n
	}
	return nil
}

// measure measures one size.
func (b *bench) measure(ctx context.Context, s size) error {
	nodes, err := b.firstSyncs(ctx, s)
	defer func() {
		for _, n := range nodes {
			n.end()
		}
	}()
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context, size, []*node) error{b.keepChanges, b.timeChanges, b.timeConnects, b.timeRestarts} {
		if err := step(ctx, s, nodes); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) newNetns(ctx context.Context) (*netns, error) {
	b.netns++
	ns, err := newNetns(b.netns)
	if err != nil {
		return nil, err
	}
	return ns, b.objects.node(ctx, ns)
}

// say tells how far the run is.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.stderr, "%6.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

func (b *bench) ips(s size) []netip.Addr { return b.objects.ips[:s.services] }
