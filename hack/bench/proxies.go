package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// The proxies that are measured. The name says what and how.
const (
	svcproxyNFT       = "svcproxy-nft"
	svcproxyLegacy    = "svcproxy-legacy"
	kubeProxyNFT      = "kube-proxy-iptables-nft"
	kubeProxyLegacy   = "kube-proxy-iptables-legacy"
	kubeProxyNFTables = "kube-proxy-nftables"
	// noProxy is a node without rules, for comparison.
	noProxy = "none"
)

func proxyNames() []string {
	return []string{svcproxyNFT, svcproxyLegacy, kubeProxyNFT, kubeProxyLegacy, kubeProxyNFTables}
}

// kind is how to run a proxy.
type kind struct {
	name    string
	ours    bool
	backend string // of iptables
	mode    string // of kube-proxy
}

func kindOf(name string) kind {
	k := kind{name: name, backend: "nft", mode: "iptables"}
	switch name {
	case svcproxyNFT:
		k.ours = true
	case svcproxyLegacy:
		k.ours, k.backend = true, "legacy"
	case kubeProxyLegacy:
		k.backend = "legacy"
	case kubeProxyNFTables:
		k.mode = "nftables"
	}
	return k
}

// command returns the program and its flags, as a cluster would run it. It writes
// kube-proxy a file, since nftables mode has no flag for its least period.
func (k kind) command(o *options, kubeconfig, node, dir string) (path string, args []string, err error) {
	if k.ours {
		return o.svcproxy, []string{"--kubeconfig", kubeconfig, "--hostname-override", node, "--cluster-cidr", clusterNetwork.String(),
			"--conntrack-max-per-core=0", "--conntrack-min=0", "--iptables-min-sync-period", o.minSync.String(), "--iptables-backend", k.backend}, nil
	}
	file := filepath.Join(dir, "kube-proxy.yaml")
	err = os.WriteFile(file, fmt.Appendf(nil, kubeProxyConfig, k.mode, node, clusterNetwork, kubeconfig, o.minSync, o.minSync), 0o600)
	return filepath.Join(o.bin, "kube-proxy"), []string{"--config", file}, err
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
