package main

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// Where everything is; the namespaces have no other networks.
var (
	controlIP      = netip.MustParseAddr("172.16.0.1") // of the API server
	nodeNetwork    = netip.MustParsePrefix("172.16.0.0/16")
	clusterNetwork = netip.MustParsePrefix("10.64.0.0/14") // all pods; what --cluster-cidr says
	podNetwork     = netip.MustParsePrefix("10.64.0.0/15") // those that serve
	clientNetwork  = netip.MustParsePrefix("10.66.0.0/16") // those that connect
	serviceNetwork = netip.MustParsePrefix("10.96.0.0/12")
)

const (
	servicePort = 80
	podPort     = 8080
)

// nthIP is an address of a network; 0 and 1 are not for pods and nodes.
func nthIP(p netip.Prefix, n int) netip.Addr {
	from := p.Addr().As4()
	binary.BigEndian.PutUint32(from[:], binary.BigEndian.Uint32(from[:])+uint32(n)+2)
	return netip.AddrFrom4(from)
}

// Endpoints that have a meaning; those of Services begin at firstPod.
const (
	podA = iota // an endpoint that changes is either this
	podB        // or this
	podC        // the one beside it
	podOfNoService
	firstPod
)

func pod(n int) netip.AddrPort { return netip.AddrPortFrom(nthIP(podNetwork, n), podPort) }

// clusterIPs returns n addresses all over the service network, as an API server
// chooses them, but the same in each run.
func clusterIPs(n int) []netip.Addr {
	random := rand.New(rand.NewPCG(1, 2))
	taken := map[int]bool{}
	var out []netip.Addr
	for len(out) < n {
		k := random.IntN(1<<20 - 100)
		if k < 100 || taken[k] {
			continue // the first are the API server's own
		}
		taken[k] = true
		out = append(out, nthIP(serviceNetwork, k))
	}
	return out
}
