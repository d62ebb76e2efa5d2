package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// options is the command line. Flags that kube-proxy has carry its names,
// defaults and meaning.
type options struct {
	stdin io.Reader
	flags *pflag.FlagSet

	dryRun, once, cleanup, initOnly bool
	sysctlDir                       string
	files                           []string

	configFile       string
	writeConfigTo    string
	master           string
	hostnameOverride string
	healthzPort      int
	metricsPort      int

	ipFamily string
	backend  string
	noLocal  string

	fromFlags  *configuration // what flags say
	families   []rules.Family // those asked for
	configText []byte         // what configFile held
	settings   *settings
}

// addFlags adds all flags of svcproxy itself.
func (o *options) addFlags(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.BoolVar(&o.dryRun, "dry-run", false, "print the rules as input for iptables-restore and touch nothing")
	fs.BoolVar(&o.once, "once", false, "sync once and exit")
	fs.BoolVar(&o.cleanup, "cleanup", false, "remove all rules of svcproxy or kube-proxy and exit")
	fs.BoolVar(&o.initOnly, "init-only", false, "set the node's sysctls, which takes more rights than serving, and exit")
	fs.StringVar(&o.sysctlDir, "sysctl-dir", kernel.SysctlDir, "`folder` in which --init-only finds the sysctls of net; that of a container's /proc is read-only")
	fs.StringVar(&o.writeConfigTo, "write-config-to", "", "write the whole configuration, defaults and flags, to a `file` and exit")
	o.addRuleFlags(fs)
	fs.IntVar(&o.healthzPort, "healthz-port", healthzPort, "")
	fs.IntVar(&o.metricsPort, "metrics-port", metricsPort, "")
	_ = fs.MarkDeprecated("healthz-port", "use --healthz-bind-address")
	_ = fs.MarkDeprecated("metrics-port", "use --metrics-bind-address")
}

// addRuleFlags adds the flags that say where objects come from and what the rules
// for them are: svcproxy's own, and those of the commands that look at its rules.
func (o *options) addRuleFlags(fs *pflag.FlagSet) {
	o.flags = fs
	fs.StringArrayVarP(&o.files, "filename", "f", nil, "read objects from a `file`, a directory or - (standard input) instead of an API server; may be repeated")
	fs.StringVar(&o.configFile, "config", "", "`file` with a KubeProxyConfiguration; it takes the place of all flags that write into one, save those of logging. svcproxy ends when it changes")
	fs.StringVar(&o.hostnameOverride, "hostname-override", "", "`name` of this Node, also with --config; empty: the host name")
	fs.StringVar(&o.master, "master", "", "`address` of the API server, in the place of the kubeconfig's; also with --config")
	fs.StringVar(&o.noLocal, "local-traffic-without-endpoint", "drop", "what becomes of traffic that policy Local leaves without an endpoint on this node: `drop` or reject")
	fs.StringVar(&o.ipFamily, "ip-family", "", "serve only `ipv4` or ipv6; empty: both")
	fs.StringVar(&o.backend, "iptables-backend", "auto", "nft, legacy, or `auto`: the one that the host already uses")
	o.healthzPort, o.metricsPort = healthzPort, metricsPort
	o.fromFlags = defaultConfiguration()
	addConfigFlags(fs, o.fromFlags)
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
	if !slices.Contains([]string{"auto", string(kernel.NFT), string(kernel.Legacy)}, o.backend) {
		return usagef("--iptables-backend: %q: must be auto, nft or legacy", o.backend)
	}
	if !slices.Contains([]string{"drop", "reject"}, o.noLocal) {
		return usagef("--local-traffic-without-endpoint: %q: must be drop or reject", o.noLocal)
	}
	if o.hostnameOverride != "" && strings.TrimSpace(o.hostnameOverride) == "" {
		return usagef("--hostname-override: %q: is blank", o.hostnameOverride)
	}
	return o.configure()
}

func (o *options) checkModes() error {
	modes := 0
	for _, on := range []bool{o.dryRun, o.once, o.cleanup, o.initOnly, o.writeConfigTo != ""} {
		if on {
			modes++
		}
	}
	if modes > 1 {
		return usagef("only one of --dry-run, --once, --cleanup, --init-only and --write-config-to can be given")
	}
	server := o.master != "" || o.configFile == "" && o.fromFlags.ClientConnection.Kubeconfig != ""
	if server && len(o.files) > 0 {
		return usagef("--kubeconfig or --master and -f exclude each other: objects come from one place")
	}
	return nil
}

// configure takes the settings from the file, if there is one, else from the flags.
func (o *options) configure() error {
	if o.configFile == "" {
		return o.configureByFlags()
	}
	text, err := os.ReadFile(o.configFile)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	o.configText = text
	o.settings, err = o.readConfiguration(text)
	return err
}

func (o *options) configureByFlags() error {
	c := o.completeFlags()
	o.overrideHostname(c)
	var errs field.ErrorList
	if o.settings, errs = newSettings(c); len(errs) == 0 {
		return nil
	}
	for _, err := range errs {
		err.Field = o.nameOf(err.Field)
	}
	return usageError{errs.ToAggregate()}
}

// readConfiguration returns the settings that the file's text asks for.
func (o *options) readConfiguration(text []byte) (*settings, error) {
	fail := func(err error) (*settings, error) { return nil, fmt.Errorf("%s: %w", o.configFile, err) }
	c, err := decodeConfiguration(text)
	if err != nil {
		return fail(err)
	}
	setDefaults(c)
	o.overrideHostname(c)
	if err := overrideLogging(o.flags, &c.Logging); err != nil {
		return fail(err)
	}
	s, errs := newSettings(c)
	if len(errs) > 0 {
		return fail(errs.ToAggregate())
	}
	return s, nil
}

func (o *options) overrideHostname(c *configuration) {
	if name := strings.TrimSpace(o.hostnameOverride); name != "" {
		c.HostnameOverride = strings.ToLower(name)
	}
}

// config is what the options say about the rules of one family.
func (o *options) config(f rules.Family) rules.Config {
	return rules.Config{
		Family:             f,
		PodTraffic:         o.settings.podTraffic.of(f),
		MasqueradeAll:      o.settings.IPTables.MasqueradeAll,
		MasqueradeMark:     1 << *o.settings.IPTables.MasqueradeBit,
		DropInvalid:        true,
		NodePorts:          o.settings.nodePorts.of(f),
		RejectWithoutLocal: o.noLocal == "reject",
		WithoutExternalIPs: !o.settings.gates.Enabled(allowServiceExternalIPs),
	}
}
