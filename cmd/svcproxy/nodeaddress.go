package main

import (
	"net/netip"
	"slices"

	"svcproxy/pkg/proxy"
	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// addressedSource says of the own Node that an address is its primary one, in the
// place of what the Node says. kube-proxy's --bind-address does this, and nothing
// else.
type addressedSource struct {
	proxy.Source
	address netip.Addr
}

// Snapshot returns the state of now with that address.
func (s addressedSource) Snapshot() (*rules.Snapshot, []watch.Problem) {
	snap, problems := s.Source.Snapshot()
	out := *snap
	family := rules.FamilyOf(s.address)
	out.Node.Primary = []netip.Addr{s.address}
	for _, a := range snap.Node.Primary {
		if rules.FamilyOf(a) != family {
			out.Node.Primary = append(out.Node.Primary, a)
		}
	}
	if !slices.Contains(out.Node.Addresses, s.address) {
		out.Node.Addresses = append(slices.Clone(out.Node.Addresses), s.address)
		slices.SortFunc(out.Node.Addresses, netip.Addr.Compare)
	}
	return &out, problems
}
