// Package proxies knows how to run svcproxy, and kube-proxy beside it, on a node
// as a cluster would.
package proxies

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The proxies there are. The name says what and how.
const (
	SvcproxyNFT       = "svcproxy-nft"
	SvcproxyLegacy    = "svcproxy-legacy"
	KubeProxyNFT      = "kube-proxy-iptables-nft"
	KubeProxyLegacy   = "kube-proxy-iptables-legacy"
	KubeProxyNFTables = "kube-proxy-nftables"
)

// Names lists them.
func Names() []string {
	return []string{SvcproxyNFT, SvcproxyLegacy, KubeProxyNFT, KubeProxyLegacy, KubeProxyNFTables}
}

// Kind is how to run a proxy.
type Kind struct {
	Name    string
	Ours    bool
	Backend string // of iptables
	mode    string // of kube-proxy
}

// KindOf returns the kind of a name.
func KindOf(name string) Kind {
	k := Kind{Name: name, Backend: "nft", mode: "iptables"}
	switch name {
	case SvcproxyNFT:
		k.Ours = true
	case SvcproxyLegacy:
		k.Ours, k.Backend = true, "legacy"
	case KubeProxyLegacy:
		k.Backend = "legacy"
	case KubeProxyNFTables:
		k.mode = "nftables"
	}
	return k
}

// Node is where a proxy runs, and for which cluster.
type Node struct {
	Svcproxy     string // program
	KubeProxy    string // program
	Kubeconfig   string
	Name         string // of the Node
	Dir          string // folder for what the proxy is told by files
	ClusterCIDRs []netip.Prefix
	MinSync      time.Duration // least time between two syncs
}

// Command returns the program and its flags. It writes kube-proxy a file, since
// nftables mode has no flag for its least period.
func (k Kind) Command(n Node) (path string, args []string, err error) {
	var cidrs []string
	for _, c := range n.ClusterCIDRs {
		cidrs = append(cidrs, c.String())
	}
	cluster := strings.Join(cidrs, ",")
	if k.Ours {
		return n.Svcproxy, []string{"--kubeconfig", n.Kubeconfig, "--hostname-override", n.Name, "--cluster-cidr", cluster,
			"--conntrack-max-per-core=0", "--conntrack-min=0", "--iptables-min-sync-period", n.MinSync.String(), "--iptables-backend", k.Backend}, nil
	}
	file := filepath.Join(n.Dir, "kube-proxy.yaml")
	err = os.WriteFile(file, fmt.Appendf(nil, kubeProxyConfig, k.mode, n.Name, cluster, n.Kubeconfig, n.MinSync, n.MinSync), 0o600)
	return n.KubeProxy, []string{"--config", file}, err
}

const kubeProxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
hostnameOverride: %s
clusterCIDR: %s
clientConnection: {kubeconfig: %s}
conntrack: {maxPerCore: 0, min: 0}
iptables: {minSyncPeriod: %s}
nftables: {minSyncPeriod: %s}
`
