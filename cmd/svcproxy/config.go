package main

import (
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
)

// configuration is kube-proxy's: the one form of what its flags and its file say.
type configuration = kubeproxy.KubeProxyConfiguration

// The modes of kube-proxy on Linux.
const (
	modeIPTables kubeproxy.ProxyMode = "iptables"
	modeIPVS     kubeproxy.ProxyMode = "ipvs"
	modeNFTables kubeproxy.ProxyMode = "nftables"
)

const (
	healthzPort = 10256
	metricsPort = 10249
)

// defaultConfiguration returns what holds where nothing is said.
func defaultConfiguration() *configuration {
	c := &configuration{}
	setDefaults(c)
	return c
}

// setDefaults fills in what is empty, as kube-proxy does for its file: there zero
// and null mean the default.
func setDefaults(c *configuration) {
	c.SetGroupVersionKind(kubeproxy.SchemeGroupVersion.WithKind("KubeProxyConfiguration"))
	if c.FeatureGates == nil {
		c.FeatureGates = map[string]bool{}
	}
	setDefault(&c.ClientConnection.ContentType, "application/vnd.kubernetes.protobuf")
	setDefault(&c.ClientConnection.QPS, 5)
	setDefault(&c.ClientConnection.Burst, 10)
	logsapi.SetRecommendedLoggingConfiguration(&c.Logging)
	setDefaultAddresses(c)
	setDefault(&c.Mode, modeIPTables)
	setDefaultSyncing(c)
	setDefault(&c.DetectLocalMode, localByClusterCIDR)
	setDefaultPointer(&c.OOMScoreAdj, -999)
	setDefaultPointer(&c.Conntrack.MaxPerCore, 32*1024)
	setDefaultPointer(&c.Conntrack.Min, 128*1024)
	setDefaultPointer(&c.Conntrack.TCPEstablishedTimeout, metav1.Duration{Duration: 24 * time.Hour})
	setDefaultPointer(&c.Conntrack.TCPCloseWaitTimeout, metav1.Duration{Duration: time.Hour})
	setDefault(&c.ConfigSyncPeriod.Duration, 15*time.Minute)
}

// setDefaultAddresses fills in where to listen, in the family of the bind address.
func setDefaultAddresses(c *configuration) {
	setDefault(&c.BindAddress, "0.0.0.0")
	all, loopback := "0.0.0.0", "127.0.0.1"
	if a, err := netip.ParseAddr(c.BindAddress); err == nil && a.Is6() {
		all, loopback = "::", "::1"
	}
	setDefault(&c.HealthzBindAddress, all)
	setDefault(&c.MetricsBindAddress, loopback)
	c.HealthzBindAddress = withPort(c.HealthzBindAddress, healthzPort)
	c.MetricsBindAddress = withPort(c.MetricsBindAddress, metricsPort)
}

func setDefaultSyncing(c *configuration) {
	setDefault(&c.IPTables.SyncPeriod.Duration, 30*time.Second)
	setDefault(&c.IPTables.MinSyncPeriod.Duration, time.Second)
	setDefaultPointer(&c.IPTables.MasqueradeBit, 14)
	setDefaultPointer(&c.IPTables.LocalhostNodePorts, true)
	setDefault(&c.IPVS.SyncPeriod.Duration, 30*time.Second)
	setDefault(&c.NFTables.SyncPeriod.Duration, 30*time.Second)
	setDefault(&c.NFTables.MinSyncPeriod.Duration, time.Second)
	setDefaultPointer(&c.NFTables.MasqueradeBit, 14)
}

func setDefault[T comparable](p *T, value T) {
	var empty T
	if *p == empty {
		*p = value
	}
}

func setDefaultPointer[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}

// withPort adds a port to an address without one. What is no address stays.
func withPort(address string, port int) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	return netip.AddrPortFrom(a, uint16(port)).String()
}
