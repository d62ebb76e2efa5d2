package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/component-base/featuregate"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"svcproxy/pkg/rules"
)

// flagExamples are values for each flag that writes into the configuration, none
// of them its default. A file writes them the same, save where said otherwise.
func flagExamples() map[string][]string {
	durations := []string{"1m30s", "45s", "2h"}
	return map[string][]string{
		"kubeconfig": {"/etc/kubeconfig"}, "kube-api-content-type": {"application/json"},
		"kube-api-qps": {"7.5", "-1"}, "kube-api-burst": {"50"},
		"cluster-cidr": {"10.0.0.0/8", "10.0.0.0/8,fd00::/48"}, "detect-local-mode": {"NodeCIDR"},
		"pod-bridge-interface": {"cbr0"}, "pod-interface-name-prefix": {"veth"},
		"masquerade-all": {"true"}, "iptables-masquerade-bit": {"0", "31"},
		"nodeport-addresses": {"primary", "10.0.0.0/8,localhost"}, "iptables-localhost-nodeports": {"false"},
		"bind-address": {"10.0.0.7", "::"}, "iptables-sync-period": durations, "iptables-min-sync-period": {"5s", "10ms"},
		"healthz-bind-address": {"10.0.0.7:1", "[::]:65535"}, "metrics-bind-address": {"0.0.0.0:10249"},
		"bind-address-hard-fail": {"true"}, "profiling": {"true"},
		"conntrack-max-per-core": {"0", "5"}, "conntrack-min": {"0", "7"},
		"conntrack-tcp-timeout-established": append(durations, "0s"), "conntrack-tcp-timeout-close-wait": append(durations, "0s"),
		"conntrack-tcp-be-liberal": {"true"}, "conntrack-udp-timeout": durations, "conntrack-udp-timeout-stream": durations,
		"oom-score-adj": {"-1000", "0", "1000"}, "feature-gates": {"AllowServiceExternalIPs=false", "AllAlpha=true,WatchListClient=false"},
		"proxy-mode": {"ipvs", "nftables"}, "config-sync-period": durations, "show-hidden-metrics-for-version": {"1.36"},
		"ipvs-sync-period": durations, "ipvs-min-sync-period": {"3s"}, "ipvs-scheduler": {"rr"}, "ipvs-exclude-cidrs": {"10.0.0.0/8,10.1.0.0/16"},
		"ipvs-strict-arp": {"true"}, "ipvs-tcp-timeout": durations, "ipvs-tcpfin-timeout": durations, "ipvs-udp-timeout": durations,
		"logging-format": {"json"}, "log-flush-frequency": durations, "v": {"4"}, "vmodule": {"sync=3,watch*=5"},
		"log-text-split-stream": {"true"}, "log-text-info-buffer-size": {"4Ki"},
		"log-json-split-stream": {"true"}, "log-json-info-buffer-size": {"1M"},
	}
}

// flagFields names the field of each flag.
func flagFields() map[string]string {
	out := logFields()
	for _, f := range configFlags(defaultConfiguration()) {
		out[f.name] = f.field
	}
	return out
}

// inFile writes a flag's value as the field of a file.
func inFile(flag, value string) string {
	quoted := fmt.Sprintf("%q", value)
	switch flag {
	case "nodeport-addresses", "ipvs-exclude-cidrs":
		quoted = "[" + value + "]"
	case "feature-gates":
		quoted = "{" + strings.ReplaceAll(value, "=", ": ") + "}"
	case "vmodule":
		quoted = "[{filePattern: sync, verbosity: 3}, {filePattern: 'watch*', verbosity: 5}]"
	default:
		if _, text := defaultField(flag).(string); !text {
			quoted = value
		}
	}
	keys := strings.Split(flagFields()[flag], ".")
	for _, key := range slices.Backward(keys) {
		quoted = "{" + key + ": " + quoted + "}"
	}
	return strings.TrimSuffix(strings.TrimPrefix(quoted, "{"), "}") + "\n"
}

// defaultField is the value of a flag's field where nothing is said.
func defaultField(flag string) any {
	v := asJSON(defaultConfiguration())
	for key := range strings.SplitSeq(flagFields()[flag], ".") {
		v = v.(map[string]any)[key]
	}
	return v
}

// Every flag of kube-proxy's configuration writes into its field and no other,
// and the file says the same by that field.
func TestEachFlagIsAField(t *testing.T) {
	for flag, field := range flagFields() {
		if len(flagExamples()[flag]) == 0 {
			t.Errorf("--%s has no example", flag)
		}
		for _, value := range flagExamples()[flag] {
			o := &options{}
			cmd := newCommand(strings.NewReader(""))
			cmd.ResetFlags()
			o.addFlags(cmd.Flags())
			if err := cmd.ParseFlags([]string{"--" + flag + "=" + value}); err != nil {
				t.Fatal(err)
			}
			byFlag := o.completeFlags()
			for _, path := range differing(byFlag, defaultConfiguration()) {
				// --proxy-mode=nftables has what the other flags say in its section.
				if path != field && !strings.HasPrefix(path, field+".") {
					t.Errorf("--%s=%s writes into %s too", flag, value, path)
				}
			}
			byFile, err := decodeConfiguration([]byte(configText(inFile(flag, value))))
			if err != nil {
				t.Fatal(err)
			}
			setDefaults(byFile)
			if flag == "bind-address" { // in a file, its family is that of the servers too
				byFile.HealthzBindAddress, byFile.MetricsBindAddress = byFlag.HealthzBindAddress, byFlag.MetricsBindAddress
			}
			if d := differing(byFlag, byFile); len(d) > 0 || len(differing(byFile, defaultConfiguration())) == 0 {
				t.Errorf("--%s=%s and %s differ in %v, or are the default", flag, value, inFile(flag, value), d)
			}
		}
	}
}

// kube-proxy's flags are all there, and what does not apply is not in the help.
func TestFlagsOfKubeProxy(t *testing.T) {
	text, err := os.ReadFile("testdata/kube-proxy-flags.txt")
	if err != nil {
		t.Fatal(err)
	}
	cmd := newCommand(strings.NewReader(""))
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	for _, name := range append(strings.Fields(string(text)), "healthz-port", "metrics-port") {
		if cmd.Flags().Lookup(name) == nil {
			t.Errorf("there is no --%s", name)
		}
	}
	for _, f := range unusedFlags(defaultConfiguration()) {
		if !cmd.Flags().Lookup(f.name).Hidden {
			t.Errorf("--%s is in the help", f.name)
		}
	}
}

// What cannot be is an error that names the flag or the field, and the value.
func TestBadValues(t *testing.T) {
	fields := flagFields()
	for _, c := range []struct {
		flag, value string
		words       []string // of the error; nil: the value
	}{
		{"cluster-cidr", "10.0.0.0", nil}, {"cluster-cidr", "10.0.0.0/8,10.1.0.0/16", []string{`"10.1.0.0/16"`}}, {"cluster-cidr", "::ffff:10.0.0.0/104", nil},
		{"detect-local-mode", "Guess", nil}, {"nodeport-addresses", "primary,10.0.0.0", []string{`"10.0.0.0"`}},
		{"iptables-masquerade-bit", "32", nil}, {"iptables-masquerade-bit", "-1", nil},
		{"bind-address", "node", nil}, {"healthz-bind-address", "localhost:1", nil}, {"healthz-bind-address", "10.0.0.1:0", nil},
		{"metrics-bind-address", "10.0.0.1:65536", nil}, {"metrics-bind-address", ":10249", nil},
		{"iptables-min-sync-period", "-1s", nil}, {"iptables-sync-period", "-5s", nil}, {"iptables-sync-period", "1ms", []string{`"1ms"`, "minSyncPeriod, 1s"}},
		{"config-sync-period", "-1s", nil}, {"kube-api-burst", "-1", nil}, {"conntrack-max-per-core", "-1", nil}, {"conntrack-min", "-1", nil},
		{"conntrack-tcp-timeout-established", "-1s", nil}, {"conntrack-tcp-timeout-close-wait", "-1s", nil},
		{"conntrack-udp-timeout", "-1s", nil}, {"conntrack-udp-timeout-stream", "-1s", nil},
		{"oom-score-adj", "-1001", nil}, {"oom-score-adj", "1001", nil}, {"show-hidden-metrics-for-version", "v1", nil},
		{"proxy-mode", "userspace", nil}, {"feature-gates", "NoSuchGate=true", []string{"unrecognized feature gate: NoSuchGate"}},
		{"feature-gates", "MultiCIDRServiceAllocator=false", []string{"MultiCIDRServiceAllocator to false, feature is locked to true"}},
		{"logging-format", "xml", nil}, {"log-text-split-stream", "true", []string{"LoggingAlphaOptions is disabled"}},
		{"log-json-info-buffer-size", "4Ki", []string{"LoggingAlphaOptions is disabled"}}, {"log-flush-frequency", "-5s", nil},
	} {
		if c.words == nil {
			c.words = []string{c.value}
		}
		expectRefused(t, 2, []string{"--" + c.flag + "=" + c.value}, append(c.words, "--"+c.flag+": ")...)
		file := configFile(t, inFile(c.flag, c.value))
		expectRefused(t, 1, []string{"--config", file}, append(c.words, file+": ", fields[c.flag])...)
	}
	expectRefused(t, 1, []string{"--config", configFile(t, "nodePortAddresses: [all, x]\nfeatureGates: {X: true}\n")}, "nodePortAddresses[1]", "featureGates[X]")
	// There zero is the default.
	for _, flag := range []string{"iptables-sync-period", "config-sync-period", "log-flush-frequency"} {
		expectRefused(t, 2, []string{"--" + flag + "=0s"}, "--"+flag+":", "0s")
	}
	expectRefused(t, 2, []string{"--hostname-override= "}, "--hostname-override", `" "`)
	expectRefused(t, 2, []string{"--iptables-masquerade-bit=high"}, "--iptables-masquerade-bit", "high")
	expectRefused(t, 2, []string{"--proxy-mode=nftables", "--iptables-masquerade-bit=32"}, "--iptables-masquerade-bit:", "32")
	expectRefused(t, 1, []string{"--config", configFile(t, "mode: nftables\nnftables: {masqueradeBit: 32, syncPeriod: -1s}\n")}, "nftables.masqueradeBit", "nftables.syncPeriod")
	expectRefused(t, 1, []string{"--config", configFile(t, "mode: ipvs\nipvs: {minSyncPeriod: 1m}\n")}, "ipvs.syncPeriod")
	expectRefused(t, 1, []string{"--config", configFile(t, "hostnameOverride: ' '\n")}, "hostnameOverride")
}

func expectRefused(t *testing.T, status int, args []string, words ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	got := run(context.Background(), append(args, "--write-config-to", filepath.Join(t.TempDir(), "c")), strings.NewReader(""), &stdout, &stderr)
	if got != status {
		t.Errorf("%v: status %d, want %d: %s", args, got, status, &stderr)
	}
	for _, w := range words {
		if !strings.Contains(stderr.String(), w) {
			t.Errorf("%v: does not say %s: %s", args, w, &stderr)
		}
	}
}

// What one svcproxy writes, another one reads to the same effect, whether it was
// asked by flags or by a file.
func TestWrittenConfigurationIsReadBack(t *testing.T) {
	flags := slices.Sorted(func(yield func(string) bool) {
		for f := range flagFields() {
			if !yield(f) {
				return
			}
		}
	})
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		args := []string{"--feature-gates=LoggingAlphaOptions=true"}
		for _, flag := range rapid.SliceOfDistinct(rapid.SampledFrom(flags), rapid.ID[string]).Draw(r, "flags") {
			values := flagExamples()[flag]
			switch flag { // what a file would take for the default
			case "iptables-min-sync-period", "ipvs-sync-period", "kube-api-qps", "kube-api-burst":
				values = append(values, "0")
			case "kube-api-content-type", "proxy-mode", "detect-local-mode", "bind-address", "nodeport-addresses":
				values = append(values, "")
			case "feature-gates":
				values = []string{"AllowServiceExternalIPs=false,LoggingAlphaOptions=true"}
			}
			args = append(args, "--"+flag+"="+rapid.SampledFrom(values).Draw(r, flag))
		}
		first := &options{}
		cmd := newCommand(strings.NewReader(""))
		cmd.ResetFlags()
		first.addFlags(cmd.Flags())
		if err := cmd.ParseFlags(args); err != nil {
			r.Fatal(err)
		}
		if first.complete() != nil {
			r.Skip("these do not go together")
		}
		first.writeConfigTo = filepath.Join(dir, "written")
		if err := first.writeConfiguration(); err != nil {
			r.Fatal(err)
		}
		second := configured(t, "--config", first.writeConfigTo)
		if d := differing(first.settings.configuration, second.settings.configuration); len(d) > 0 {
			r.Errorf("%v: read back, these differ: %v", args, d)
		}
		for _, f := range rules.Families() {
			if a, b := first.config(f), second.config(f); !reflect.DeepEqual(a, b) {
				r.Errorf("%v: for the rules this is %+v, and read back %+v", args, a, b)
			}
		}
		if a, b := first.settings, second.settings; a.nodeName != b.nodeName || a.nodeAddress != b.nodeAddress {
			r.Errorf("%v: node %s (%s), and read back %s (%s)", args, a.nodeName, a.nodeAddress, b.nodeName, b.nodeAddress)
		}
		for _, gate := range []featuregate.Feature{allowServiceExternalIPs, "LoggingAlphaOptions", "KubeProxyIPVS"} {
			if first.settings.gates.Enabled(gate) != second.settings.gates.Enabled(gate) {
				r.Errorf("%v: read back, %s differs", args, gate)
			}
		}
	})
}

// The file is complete, and is kube-proxy's own where nothing was said.
func TestWriteConfigTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	var stdout, stderr bytes.Buffer
	if status := run(context.Background(), []string{"--write-config-to", path}, strings.NewReader(""), &stdout, &stderr); status != 0 || stderr.Len() > 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	var ours, theirs map[string]any
	for file, into := range map[string]*map[string]any{path: &ours, "testdata/kube-proxy-config.yaml": &theirs} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []string{"ipvs", "nftables"} { // where kube-proxy leaves zero, which it reads as the default
		delete(ours, other)
		delete(theirs, other)
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("-kube-proxy +svcproxy:\n%s", diff)
	}
	expectRefused(t, 2, []string{"--healthz-bind-address="}, "--write-config-to", "--healthz-bind-address is empty")
	expectRefused(t, 2, []string{"--metrics-port=0"}, "--write-config-to", "--metrics-bind-address is empty")
	expectRefused(t, 2, []string{"--once"}, "only one of")
}

// With a file, flags count that say which node and which server, and how to log.
func TestFlagsThatCountWithAFile(t *testing.T) {
	file := configFile(t, "mode: iptables\nclusterCIDR: 10.0.0.0/8\nhostnameOverride: by-file\nlogging: {verbosity: 1, options: {text: {splitStream: true}}, vmodule: [{filePattern: a, verbosity: 1}]}\nfeatureGates: {LoggingAlphaOptions: true}\n")
	s := configured(t, "--config", file).settings
	if s.nodeName != "by-file" || s.Logging.Verbosity != 1 || !s.Logging.Options.Text.SplitStream || len(s.Logging.VModule) != 1 {
		t.Errorf("by the file alone: node %s, logging %+v", s.nodeName, s.Logging)
	}
	s = configured(t, "--config", file, "--hostname-override=By-Flag", "-v=5", "--vmodule=b=2", "--cluster-cidr=10.1.0.0/16", "--masquerade-all", "--feature-gates=NoSuchGate=true").settings
	if s.nodeName != "by-flag" || s.HostnameOverride != "by-flag" || s.Logging.Verbosity != 5 || !s.Logging.Options.Text.SplitStream {
		t.Errorf("by flags too: node %s, logging %+v", s.nodeName, s.Logging)
	}
	if m := s.Logging.VModule; len(m) != 2 || m[0].FilePattern != "b" || m[1].FilePattern != "a" {
		t.Errorf("patterns: %+v, want the flag's before the file's", m)
	}
	if s.ClusterCIDR != "10.0.0.0/8" || s.IPTables.MasqueradeAll {
		t.Errorf("flags came before the file: %s, %v", s.ClusterCIDR, s.IPTables.MasqueradeAll)
	}
	if err := configured(t, "--config", file, "-f", "x").checkModes(); err != nil {
		t.Errorf("a file with objects and one with the configuration: %v", err)
	}
	expectRefused(t, 2, []string{"-f", "x", "--master=https://x"}, "--master")
}

// Addresses get their port, and 0 as a deprecated flag's port is none.
func TestAddressesOfFlags(t *testing.T) {
	for args, want := range map[string]string{
		"": "0.0.0.0:10256 127.0.0.1:10249",
		"--healthz-bind-address=10.0.0.1 --metrics-bind-address=::1":        "10.0.0.1:10256 [::1]:10249",
		"--healthz-bind-address=10.0.0.1 --healthz-port=5":                  "10.0.0.1:5 127.0.0.1:10249",
		"--healthz-bind-address=10.0.0.1:6 --healthz-port=5":                "10.0.0.1:6 127.0.0.1:10249",
		"--healthz-port=0 --metrics-port=0":                                 " ",
		"--healthz-bind-address= --metrics-bind-address=":                   " ",
		"--bind-address=fd00::1":                                            "0.0.0.0:10256 127.0.0.1:10249",
		"--metrics-bind-address=0.0.0.0 --metrics-port=1 --healthz-port=10": "0.0.0.0:10256 0.0.0.0:1",
	} {
		s := configured(t, strings.Fields(args)...).settings
		if got := s.HealthzBindAddress + " " + s.MetricsBindAddress; got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
	}
}
