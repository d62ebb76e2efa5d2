package rules

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"slices"
	"strings"
)

// The chains that exist whatever Services there are. Names and meaning are
// kube-proxy's; doc.go draws how they hang together.
const (
	chainServices         = "KUBE-SERVICES"          // nat and filter
	chainNodePorts        = "KUBE-NODEPORTS"         // nat and filter
	chainPostrouting      = "KUBE-POSTROUTING"       // nat
	chainMarkMasq         = "KUBE-MARK-MASQ"         // nat
	chainForward          = "KUBE-FORWARD"           // filter
	chainExternalServices = "KUBE-EXTERNAL-SERVICES" // filter
	chainProxyFirewall    = "KUBE-PROXY-FIREWALL"    // filter
	chainKubeFirewall     = "KUBE-FIREWALL"          // filter; kubelet writes it too
	chainCanary           = "KUBE-PROXY-CANARY"      // left behind by kube-proxy
)

// The prefixes of the chains that belong to one Service port or endpoint, all in nat.
const (
	prefixService  = "KUBE-SVC-" // balances over all usable endpoints
	prefixLocal    = "KUBE-SVL-" // balances over the endpoints on this node
	prefixExternal = "KUBE-EXT-" // traffic from outside the cluster
	prefixFirewall = "KUBE-FW-"  // load balancer source ranges
	prefixEndpoint = "KUBE-SEP-" // one endpoint
)

// The prefixes of the chains that a long list is divided into: see dispatch.go.
//
// A kube-proxy that comes after svcproxy removes every chain of nat with one of the
// five prefixes above that it does not know, and no others; it cannot remove one that
// a chain which it leaves still leads to, and then it writes nothing at all. So all
// chains of nat that it has no name for begin with these prefixes.
const (
	treeByIP       = prefixService + "IP-"    // nat, of KUBE-SERVICES
	treeByNodePort = prefixExternal + "PORT-" // nat, of KUBE-NODEPORTS

	treeServices  = "KUBE-SERVICES-"  // filter
	treeNodePorts = "KUBE-NODEPORTS-" // filter
	treeExternal  = "KUBE-EXTERNAL-"  // filter, of KUBE-EXTERNAL-SERVICES
	treeFirewall  = "KUBE-PFW-"       // filter, of KUBE-PROXY-FIREWALL
)

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// serviceHash is what the names of a service port's chains end in, byte for
// byte as kube-proxy computes it: the first 16 characters of the base32 of the
// SHA-256 of the port's ID and protocol, with nothing in between.
func serviceHash(id string, p Protocol) string {
	return shortHash(id + string(p))
}

// endpointChain is the name of an endpoint's chain: kube-proxy's hash over the
// service port and the endpoint's ip:port ([ip]:port in IPv6).
func endpointChain(id string, p Protocol, ep netip.AddrPort) string {
	return prefixEndpoint + shortHash(id+string(p)+ep.String())
}

// compareHashes compares names from their last characters back: as most end in a
// hash, that is an order which has nothing to do with that of the names.
func compareHashes(a, b string) int {
	for i := 1; i <= min(len(a), len(b)); i++ {
		if c := cmp.Compare(a[len(a)-i], b[len(b)-i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:10])
}

// Owned reports whether a chain of the given table belongs to a service proxy:
// to svcproxy, or to the kube-proxy whose place it takes.
func Owned(table TableName, chain string) bool {
	switch table {
	case Nat:
		switch chain {
		case chainServices, chainNodePorts, chainPostrouting, chainMarkMasq, chainCanary:
			return true
		}
		return hasAnyPrefix(chain, prefixService, prefixLocal, prefixExternal, prefixFirewall, prefixEndpoint)
	case Filter:
		switch chain {
		case chainServices, chainNodePorts, chainForward, chainExternalServices, chainProxyFirewall, chainKubeFirewall, chainCanary, ProbeChain:
			return true
		}
		return hasAnyPrefix(chain, treeServices, treeNodePorts, treeExternal, treeFirewall)
	}
	return false
}

// Shared reports whether an owned chain belongs to others as well: kubelet writes
// KUBE-FIREWALL too. Rules of others in it stay, and it is never removed.
func Shared(table TableName, chain string) bool {
	return table == Filter && chain == chainKubeFirewall
}

// PortChains returns the names of the chains that balance the traffic of a Service
// port, by its ID: that of policy Cluster, and that of Local.
func PortChains(id string, p Protocol) (cluster, local string) {
	return prefixService + serviceHash(id, p), prefixLocal + serviceHash(id, p)
}
