package main

import (
	"context"
	"fmt"
	"net/netip"
)

// noProxy is a node without rules, for comparison.
const noProxy = "none"

// passes is how often each destination has its turn in a round.
const passes = 4

// destination is where a connection goes, and what its time is a measure of.
type destination struct {
	measure measure
	ns      *netns
	proxy   string
	to      netip.AddrPort
}

// timeConnects measures connections while all proxies are paused: it is the
// kernel alone that works.
func (b *bench) timeConnects(ctx context.Context, s size, nodes []*node) error {
	all := []destination{{connectNone, b.bare, noProxy, pod(podOfNoService)}}
	for _, n := range nodes {
		save, err := n.save(ctx)
		if err != nil {
			return err
		}
		first, last := firstAndLast(save, b.ips(s))
		one, name := b.one[n.kind.Name], n.kind.Name
		all = append(all,
			destination{connectFirst, n.netns, name, service(first)},
			destination{connectLast, n.netns, name, service(last)},
			destination{connectNone, n.netns, name, pod(podOfNoService)},
			destination{oneService, one.netns, name, service(b.objects.ips[0])},
			destination{oneNone, one.netns, name, pod(podOfNoService)})
	}
	for range b.opts.rounds * passes {
		for _, d := range all {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := d.ns.Do(func() error {
				took, err := b.pods.median(d.to, b.opts.connects)
				b.results.add(d.measure, d.proxy, s, took.Seconds())
				return err
			})
			if err != nil {
				return fmt.Errorf("%s: %s: %w", d.proxy, d.measure, err)
			}
		}
	}
	b.say("%v: connections timed", s)
	return nil
}
