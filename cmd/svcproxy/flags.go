package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
)

// configFlag is a flag of kube-proxy that writes into its configuration.
type configFlag struct {
	name, field string
	value       any // points into the configuration, and holds the default
	usage       string
}

// configFlags lists them all, save those of logging.
func configFlags(c *configuration) []configFlag {
	return slices.Concat(usedFlags(c), conntrackFlags(c), unusedFlags(c))
}

func usedFlags(c *configuration) []configFlag {
	client, tables := &c.ClientConnection, &c.IPTables
	return []configFlag{
		{"kubeconfig", "clientConnection.kubeconfig", &client.Kubeconfig, "`file` that says how to reach the API server; empty: as a pod in the cluster does"},
		{"kube-api-content-type", "clientConnection.contentType", &client.ContentType, "the `type` of what is read from the API server"},
		{"kube-api-qps", "clientConnection.qps", &client.QPS, "requests a second to the API server"},
		{"kube-api-burst", "clientConnection.burst", &client.Burst, "requests to the API server at once"},
		{"cluster-cidr", "clusterCIDR", &c.ClusterCIDR, "`CIDR` of the pods, one for each family with a comma between; traffic to a cluster IP from elsewhere gets the node as its source"},
		{"detect-local-mode", "detectLocalMode", (*string)(&c.DetectLocalMode), "`how` traffic of pods is recognised: ClusterCIDR (--cluster-cidr), NodeCIDR (spec.podCIDRs of the Node), BridgeInterface or InterfaceNamePrefix"},
		{"pod-bridge-interface", "detectLocal.bridgeInterface", &c.DetectLocal.BridgeInterface, "the bridge `interface` that traffic of pods comes in by, for BridgeInterface"},
		{"pod-interface-name-prefix", "detectLocal.interfaceNamePrefix", &c.DetectLocal.InterfaceNamePrefix, "the `prefix` of the names of the interfaces that traffic of pods comes in by, for InterfaceNamePrefix"},
		{"masquerade-all", "iptables.masqueradeAll", &tables.MasqueradeAll, "all traffic to a cluster IP gets the node as its source"},
		{"iptables-masquerade-bit", "iptables.masqueradeBit", tables.MasqueradeBit, "`bit` of the packet mark that asks for another source, 0 to 31"},
		{"nodeport-addresses", "nodePortAddresses", &c.NodePortAddresses, "where node ports are open: `addresses` of the node within these CIDRs, or primary, localhost, all; empty: all. A family without a CIDR here has them on all its addresses"},
		{"iptables-localhost-nodeports", "iptables.localhostNodePorts", tables.LocalhostNodePorts, "node ports are open on 127.0.0.0/8 too, as far as --nodeport-addresses goes; sets the sysctl route_localnet"},
		{"bind-address", "bindAddress", &c.BindAddress, "the node's primary `address`, in the place of the Node's; unspecified: as the Node says"},
		{"iptables-sync-period", "iptables.syncPeriod", &tables.SyncPeriod, "how often the kernel's rules are compared although nothing changed"},
		{"iptables-min-sync-period", "iptables.minSyncPeriod", &tables.MinSyncPeriod, "least time between two syncs"},
		{"healthz-bind-address", "healthzBindAddress", &c.HealthzBindAddress, "`address` of /healthz and /livez, with or without a port; empty: none"},
		{"metrics-bind-address", "metricsBindAddress", &c.MetricsBindAddress, "`address` of /metrics, /proxyMode and /healthz, and on loopback addresses of the page at /, /status, /configz and /quarantine; with or without a port; empty: none"},
		{"bind-address-hard-fail", "bindAddressHardFail", &c.BindAddressHardFail, "a port that stays taken ends the start; it always does"},
		{"profiling", "enableProfiling", &c.EnableProfiling, "serve /debug/pprof/ and /debug/flags/v on --metrics-bind-address"},
		{"oom-score-adj", "oomScoreAdj", c.OOMScoreAdj, "how much sooner than others the kernel ends this process where memory is short, -1000 to 1000"},
		{"feature-gates", "featureGates", cliflag.NewMapStringBool(&c.FeatureGates), "`NAME=true` or false, with commas between: kube-proxy's feature gates, of which AllowServiceExternalIPs and those of client-go and of logging do something"},
		{"proxy-mode", "mode", (*string)(&c.Mode), "iptables; for `ipvs` and nftables, iptables all the same, with what their settings come to"},
	}
}

func conntrackFlags(c *configuration) []configFlag {
	conntrack := &c.Conntrack
	return []configFlag{
		{"conntrack-max-per-core", "conntrack.maxPerCore", conntrack.MaxPerCore, "`connections` tracked per CPU core at most; 0: as the node has it"},
		{"conntrack-min", "conntrack.min", conntrack.Min, "`connections` tracked at the least, however few cores"},
		{"conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout", conntrack.TCPEstablishedTimeout, "how long an idle TCP connection is tracked; 0: as the node has it"},
		{"conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout", conntrack.TCPCloseWaitTimeout, "how long a TCP connection in CLOSE_WAIT is tracked; 0: as the node has it"},
		{"conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", &conntrack.TCPBeLiberal, "take TCP packets out of window for valid ones"},
		{"conntrack-udp-timeout", "conntrack.udpTimeout", &conntrack.UDPTimeout, "how long a UDP flow without an answer is tracked; 0: as the node has it"},
		{"conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", &conntrack.UDPStreamTimeout, "how long a UDP flow with answers is tracked; 0: as the node has it"},
	}
}

// unusedFlags are those of what svcproxy does not have.
func unusedFlags(c *configuration) []configFlag {
	ipvs := &c.IPVS
	return []configFlag{
		{"config-sync-period", "configSyncPeriod", &c.ConfigSyncPeriod, ""},
		{"show-hidden-metrics-for-version", "showHiddenMetricsForVersion", &c.ShowHiddenMetricsForVersion, ""},
		{"ipvs-sync-period", "ipvs.syncPeriod", &ipvs.SyncPeriod, ""},
		{"ipvs-min-sync-period", "ipvs.minSyncPeriod", &ipvs.MinSyncPeriod, ""},
		{"ipvs-scheduler", "ipvs.scheduler", &ipvs.Scheduler, ""},
		{"ipvs-exclude-cidrs", "ipvs.excludeCIDRs", &ipvs.ExcludeCIDRs, ""},
		{"ipvs-strict-arp", "ipvs.strictARP", &ipvs.StrictARP, ""},
		{"ipvs-tcp-timeout", "ipvs.tcpTimeout", &ipvs.TCPTimeout, ""},
		{"ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", &ipvs.TCPFinTimeout, ""},
		{"ipvs-udp-timeout", "ipvs.udpTimeout", &ipvs.UDPTimeout, ""},
	}
}

// logFields names the field behind each of the flags that logging brings along.
func logFields() map[string]string {
	return map[string]string{
		"logging-format":            "logging.format",
		"log-flush-frequency":       "logging.flushFrequency",
		"v":                         "logging.verbosity",
		"vmodule":                   "logging.vmodule",
		"log-text-split-stream":     "logging.options.text.splitStream",
		"log-text-info-buffer-size": "logging.options.text.infoBufferSize",
		"log-json-split-stream":     "logging.options.json.splitStream",
		"log-json-info-buffer-size": "logging.options.json.infoBufferSize",
	}
}

// addConfigFlags adds the flags that write into c.
func addConfigFlags(fs *pflag.FlagSet, c *configuration) {
	for _, f := range configFlags(c) {
		switch v := f.value.(type) {
		case *bool:
			fs.BoolVar(v, f.name, *v, f.usage)
		case *int32:
			fs.Int32Var(v, f.name, *v, f.usage)
		case *float32:
			fs.Float32Var(v, f.name, *v, f.usage)
		case *string:
			fs.StringVar(v, f.name, *v, f.usage)
		case *[]string:
			fs.StringSliceVar(v, f.name, *v, f.usage)
		case *metav1.Duration:
			fs.DurationVar(&v.Duration, f.name, v.Duration, f.usage)
		case pflag.Value:
			fs.Var(v, f.name, f.usage)
		}
	}
	for _, f := range unusedFlags(c) {
		fs.Lookup(f.name).Hidden = true
	}
	logsapi.AddFlags(&c.Logging, fs)
}

// nameOf says who is to blame for the value of a field: the flag that wrote it,
// or, with a file, the field itself. What stands in brackets is not part of either.
func (o *options) nameOf(field string) string {
	if o.configFile != "" {
		return field
	}
	bare, _, _ := strings.Cut(field, "[")
	bare = strings.Replace(bare, "nftables.", "iptables.", 1) // which flags do not tell apart
	for _, f := range configFlags(o.fromFlags) {
		if f.field == bare {
			return "--" + f.name
		}
	}
	for flag, of := range logFields() {
		if of == bare {
			return "--" + flag
		}
	}
	return field
}

// completeFlags turns what flags wrote into what a file would hold: there zero is
// the default, so a zero that means something becomes what it comes to.
func (o *options) completeFlags() *configuration {
	c := o.fromFlags.DeepCopy()
	setDefault(&c.ClientConnection.ContentType, "application/json") // client-go's own defaults
	setDefault(&c.ClientConnection.QPS, 5)
	setDefault(&c.ClientConnection.Burst, 10)
	setDefault(&c.BindAddress, "0.0.0.0")
	setDefault(&c.Mode, modeIPTables)
	setDefault(&c.DetectLocalMode, localByClusterCIDR)
	setDefault(&c.IPTables.MinSyncPeriod.Duration, time.Nanosecond)
	setDefault(&c.IPVS.SyncPeriod.Duration, 30*time.Second)
	if t := &c.IPTables; c.Mode == modeNFTables { // flags have no section for each mode
		c.NFTables = kubeproxy.KubeProxyNFTablesConfiguration{MasqueradeBit: t.MasqueradeBit,
			MasqueradeAll: t.MasqueradeAll, SyncPeriod: t.SyncPeriod, MinSyncPeriod: t.MinSyncPeriod}
	}
	c.HealthzBindAddress = deprecatedPort(c.HealthzBindAddress, o.healthzPort)
	c.MetricsBindAddress = deprecatedPort(c.MetricsBindAddress, o.metricsPort)
	return c
}

// deprecatedPort is what --healthz-port and --metrics-port make of an address: 0
// is none, anything else counts for an address without a port.
func deprecatedPort(address string, port int) string {
	if port == 0 {
		return ""
	}
	return withPort(address, port)
}
