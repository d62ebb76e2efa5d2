package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// options is the command line. Flags that kube-proxy has carry its names,
// defaults and meaning.
type options struct {
	stdin io.Reader

	dryRun, once, cleanup, initOnly bool
	files                           []string

	kubeconfig       string
	hostnameOverride string
	masqueradeAll    bool
	masqueradeBit    int
	ipFamily         string
	backend          string
	syncPeriod       time.Duration
	minSyncPeriod    time.Duration
	healthzAddress   string
	metricsAddress   string

	conntrack  conntrackFlags
	podTraffic podTrafficFlags
	nodePorts  nodePortFlags
	noLocal    string

	families []rules.Family // those asked for
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.BoolVar(&o.dryRun, "dry-run", false, "print the rules as input for iptables-restore and touch nothing")
	fs.StringArrayVarP(&o.files, "filename", "f", nil, "read objects from a `file`, a directory or - (standard input) instead of an API server; may be repeated")
	fs.BoolVar(&o.once, "once", false, "sync once and exit")
	fs.BoolVar(&o.cleanup, "cleanup", false, "remove all rules of svcproxy or kube-proxy and exit")
	fs.BoolVar(&o.initOnly, "init-only", false, "set the node's sysctls, which takes more rights than serving, and exit")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server; empty: as a pod in the cluster does")
	fs.StringVar(&o.hostnameOverride, "hostname-override", "", "`name` of this Node; empty: the host name")
	o.podTraffic.addFlags(fs)
	fs.BoolVar(&o.masqueradeAll, "masquerade-all", false, "all traffic to a cluster IP gets the node as its source")
	fs.IntVar(&o.masqueradeBit, "iptables-masquerade-bit", 14, "`bit` of the packet mark that asks for another source, 0 to 31")
	o.nodePorts.addFlags(fs)
	fs.StringVar(&o.noLocal, "local-traffic-without-endpoint", "drop", "what becomes of traffic that policy Local leaves without an endpoint on this node: `drop` or reject")
	fs.StringVar(&o.ipFamily, "ip-family", "", "serve only `ipv4` or ipv6; empty: both")
	fs.StringVar(&o.backend, "iptables-backend", "auto", "nft, legacy, or `auto`: the one that the host already uses")
	fs.DurationVar(&o.syncPeriod, "iptables-sync-period", 30*time.Second, "how often the kernel's rules are compared although nothing changed")
	fs.DurationVar(&o.minSyncPeriod, "iptables-min-sync-period", time.Second, "least time between two syncs")
	fs.StringVar(&o.healthzAddress, "healthz-bind-address", "0.0.0.0:10256", "`address` of /healthz and /livez; empty: none")
	fs.StringVar(&o.metricsAddress, "metrics-bind-address", "127.0.0.1:10249", "`address` of /proxyMode and /healthz; empty: none")
	o.conntrack.addFlags(fs)
}

// complete checks the flags and works out what follows from them.
func (o *options) complete() error {
	if err := o.checkModes(); err != nil {
		return err
	}
	switch strings.ToLower(o.ipFamily) {
	case "":
		o.families = rules.Families()
	case "ipv4":
		o.families = []rules.Family{rules.IPv4}
	case "ipv6":
		o.families = []rules.Family{rules.IPv6}
	default:
		return usagef("--ip-family: %q: must be ipv4 or ipv6", o.ipFamily)
	}
	if o.masqueradeBit < 0 || o.masqueradeBit > 31 {
		return usagef("--iptables-masquerade-bit: %d: must be 0 to 31", o.masqueradeBit)
	}
	if o.syncPeriod <= 0 || o.minSyncPeriod < 0 || o.minSyncPeriod > o.syncPeriod {
		return usagef("--iptables-sync-period: %v: must be greater than 0 and no less than --iptables-min-sync-period, %v", o.syncPeriod, o.minSyncPeriod)
	}
	if !slices.Contains([]string{"auto", string(kernel.NFT), string(kernel.Legacy)}, o.backend) {
		return usagef("--iptables-backend: %q: must be auto, nft or legacy", o.backend)
	}
	if !slices.Contains([]string{"drop", "reject"}, o.noLocal) {
		return usagef("--local-traffic-without-endpoint: %q: must be drop or reject", o.noLocal)
	}
	if err := o.conntrack.complete(); err != nil {
		return err
	}
	if err := o.podTraffic.complete(); err != nil {
		return err
	}
	if err := o.nodePorts.complete(); err != nil {
		return err
	}
	return o.completeNodeName()
}

func (o *options) checkModes() error {
	modes := 0
	for _, on := range []bool{o.dryRun, o.once, o.cleanup, o.initOnly} {
		if on {
			modes++
		}
	}
	if modes > 1 {
		return usagef("only one of --dry-run, --once, --cleanup and --init-only can be given")
	}
	if o.kubeconfig != "" && len(o.files) > 0 {
		return usagef("--kubeconfig and -f exclude each other: objects come from one place")
	}
	return nil
}

func (o *options) completeNodeName() error {
	if o.hostnameOverride != "" {
		o.hostnameOverride = strings.TrimSpace(o.hostnameOverride)
		return nil
	}
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("host name: %w; give --hostname-override", err)
	}
	o.hostnameOverride = strings.ToLower(strings.TrimSpace(name))
	return nil
}

// config is what the flags say about the rules of one family.
func (o *options) config(f rules.Family) rules.Config {
	return rules.Config{
		Family:             f,
		PodTraffic:         o.podTraffic.of(f),
		MasqueradeAll:      o.masqueradeAll,
		MasqueradeMark:     1 << o.masqueradeBit,
		DropInvalid:        true,
		NodePorts:          o.nodePorts.of(f),
		RejectWithoutLocal: o.noLocal == "reject",
	}
}
