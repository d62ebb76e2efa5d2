package main

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"svcproxy/pkg/rules"
)

// parsed is what a command line comes to.
func parsed(t testing.TB, args ...string) (*options, error) {
	t.Helper()
	o := &options{stdin: strings.NewReader("")}
	cmd := newCommand(strings.NewReader(""))
	cmd.ResetFlags()
	o.addFlags(cmd.Flags())
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return o, o.complete()
}

// configured is what a command line that is in order comes to.
func configured(t testing.TB, args ...string) *options {
	t.Helper()
	o, err := parsed(t, args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return o
}

// writeFile writes a file in a folder of its own.
func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// configFile writes a configuration file with these fields.
func configFile(t testing.TB, fields string) string {
	t.Helper()
	return writeFile(t, "config.conf", configText(fields))
}

func configText(fields string) string {
	return "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n" + fields
}

// testdata/kube-proxy-config.yaml is what the real kube-proxy writes as its
// defaults. Zero, which means the default, is all that may differ there.
func TestDefaultsAreThoseOfKubeProxy(t *testing.T) {
	text, err := os.ReadFile("testdata/kube-proxy-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := decodeConfiguration(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range differing(theirs, defaultConfiguration()) {
		if !strings.HasPrefix(path, "ipvs.") && !strings.HasPrefix(path, "nftables.") {
			t.Errorf("%s is not as kube-proxy writes it", path)
		}
	}
	setDefaults(theirs)
	if d := differing(theirs, defaultConfiguration()); len(d) > 0 {
		t.Errorf("read back, these differ from the defaults: %v", d)
	}
	if d := differing(configured(t).settings.configuration, defaultConfiguration()); len(d) > 0 {
		t.Errorf("without flags, these differ from the defaults: %v", d)
	}
	empty := configured(t, "--proxy-mode=", "--detect-local-mode=", "--bind-address=", "--nodeport-addresses=", "--cluster-cidr=").settings
	if d := differing(empty.configuration, defaultConfiguration()); strings.Join(d, " ") != "nodePortAddresses" {
		t.Errorf("with empty flags, these differ from the defaults: %v", d)
	}
}

// kubeadmConfigMap is kube-proxy's ConfigMap, word for word as kubeadm makes it.
func kubeadmConfigMap(t testing.TB) *corev1.ConfigMap {
	t.Helper()
	text, err := os.ReadFile("testdata/kubeadm-kube-proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		cm := &corev1.ConfigMap{}
		if strings.Contains(doc, "kind: ConfigMap") && yaml.Unmarshal([]byte(doc), cm) == nil {
			return cm
		}
	}
	t.Fatal("there is no ConfigMap")
	return nil
}

func TestKubeadmsConfigMapIsRead(t *testing.T) {
	text := kubeadmConfigMap(t).Data["config.conf"]
	for name, text := range map[string]string{
		"as it is":            text,
		"before v1.37":        strings.Replace(text, "mode: iptables", `mode: ""`, 1),
		"with gates and null": strings.Replace(text, "hostnameOverride", "featureGates: null\nhostnameOverride", 1),
	} {
		file := writeFile(t, "config.conf", text)
		o := configured(t, "--config", file, "--hostname-override=Worker-1")
		if d := differing(o.settings.configuration, defaultConfiguration()); strings.Join(d, " ") != "clientConnection.kubeconfig clusterCIDR hostnameOverride" {
			t.Errorf("%s: these are not as by default: %v", name, d)
		}
		if s := o.settings; s.ClientConnection.Kubeconfig != "/var/lib/kube-proxy/kubeconfig.conf" || s.nodeName != "worker-1" {
			t.Errorf("%s: kubeconfig %s, node %s", name, s.ClientConnection.Kubeconfig, s.nodeName)
		}
		if got := o.config(rules.IPv4).PodTraffic.CIDR; got != netip.MustParsePrefix("10.21.0.0/16") {
			t.Errorf("%s: pods are in %s", name, got)
		}
		if lines := remarks(t, o); lines != "" {
			t.Errorf("%s: there is nothing to remark, and it says %s", name, lines)
		}
	}
}

func TestKubeadmsConfigMapMakesTheSameRulesAsFlags(t *testing.T) {
	file := writeFile(t, "config.conf", kubeadmConfigMap(t).Data["config.conf"])
	objects := "../../manifests/nginx-demo/as-stored"
	byFile := dryRun(t, "--config", file, "-f", objects)
	if byFlags := dryRun(t, "--cluster-cidr=10.21.0.0/16", "-f", objects); byFile != byFlags {
		t.Errorf("rules by the file:\n%s\nby flags:\n%s", byFile, byFlags)
	}
	if !strings.Contains(byFile, "! -s 10.21.0.0/16") {
		t.Error("the pod network is not in the rules")
	}
}

func dryRun(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if status := run(context.Background(), append(args, "--dry-run"), strings.NewReader(""), &stdout, &stderr); status != 0 {
		t.Fatalf("%v: status %d, %s", args, status, &stderr)
	}
	return stdout.String()
}

// A field that is not known, or is there twice, ends the start, and is named.
func TestStrictDecoding(t *testing.T) {
	for fields, want := range map[string][]string{
		"clusterCidr: 10.0.0.0/8\n":                                        {`unknown field "clusterCidr"`},
		"iptables: {masqueradebit: 3}\n":                                   {`unknown field "iptables.masqueradebit"`},
		"a: 1\nipvs: {b: 2}\n":                                             {`unknown field "a"`, `unknown field "ipvs.b"`},
		"mode: iptables\nmode: ipvs\n":                                     {"line 4", `"mode"`},
		"iptables: {syncPeriod: soon}\n":                                   {"iptables.syncPeriod: soon:"},
		"iptables: {masqueradeBit: high}\n":                                {"iptables.masqueradeBit: high:"},
		"nodePortAddresses: primary\n":                                     {"nodePortAddresses: primary:"},
		"featureGates: {A: maybe}\n":                                       {"featureGates.A: maybe:"},
		"conntrack: {udpTimeout: null}\n":                                  {"conntrack.udpTimeout: <nil>:"},
		"iptables: [1]\n":                                                  {"iptables: [1]:"},
		"mode: {\n":                                                        {"yaml: line"},
		"---\n" + configText(""):                                           {"more than one document"},
		"kind: ConfigMap\n":                                                {`"kind"`},
		"logging: {options: {text: {infoBufferSize: much}}}\n":             {"logging.options.text.infoBufferSize: much:"},
		"clientConnection: {qps: 1e99}\n":                                  {"clientConnection.qps: 1e+99:"},
		"logging: {flushFrequency: often}\n":                               {"logging.flushFrequency: often:"},
		"logging: {verbosity: -1}\n":                                       {"logging.verbosity: -1:"},
		"logging: {vmodule: [{filePattern: a, verbosity: 1, other: 2}]}\n": {`unknown field "logging.vmodule[0].other"`},
	} {
		file := configFile(t, fields)
		_, err := parsed(t, "--config", file)
		if err == nil {
			t.Errorf("%s: is accepted", fields)
			continue
		}
		for _, w := range append(want, file) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: the error does not say %s: %v", fields, w, err)
			}
		}
	}
}

func TestOnlyAKubeProxyConfigurationIsRead(t *testing.T) {
	for text, want := range map[string]string{
		"":                           `apiVersion: "", kind: ""`,
		"mode: iptables\n":           `apiVersion: "", kind: ""`,
		"kind: KubeletConfiguration": `kind: "KubeletConfiguration"`,
		"apiVersion: kubeproxy.config.k8s.io/v1\nkind: KubeProxyConfiguration": "kubeproxy.config.k8s.io/v1",
		"[1]": "1",
	} {
		if _, err := parsed(t, "--config", writeFile(t, "c", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := parsed(t, "--config=/no/such/file"); err == nil || !strings.Contains(err.Error(), "--config: open /no/such/file") {
		t.Errorf("a file that is not there: %v", err)
	}
	if o := configured(t, "--config", writeFile(t, "c", "---\n"+configText("---\n"))); o.settings == nil {
		t.Error("empty documents are counted")
	}
}

// In a file zero and null mean the default, and a bind address of IPv6 has its
// servers there too.
func TestDefaultsOfAFile(t *testing.T) {
	for fields, want := range map[string]string{
		"":                         "0.0.0.0:10256 127.0.0.1:10249",
		`bindAddress: "::"` + "\n": "[::]:10256 [::1]:10249",
		"bindAddress: fd00::1\nhealthzBindAddress: 0.0.0.0\n":             "0.0.0.0:10256 [::1]:10249",
		"healthzBindAddress: 10.0.0.1:1\nmetricsBindAddress: \"::1\"\n":   "10.0.0.1:1 [::1]:10249",
		"healthzBindAddress: \"\"\nmetricsBindAddress: '[fd00::1]:5'\n":   "0.0.0.0:10256 [fd00::1]:5",
		"iptables: {minSyncPeriod: 0s, syncPeriod: 0s}\nmode: iptables\n": "0.0.0.0:10256 127.0.0.1:10249",
	} {
		s := configured(t, "--config", configFile(t, fields)).settings
		if got := s.HealthzBindAddress + " " + s.MetricsBindAddress; got != want {
			t.Errorf("%s: listens on %s, want %s", fields, got, want)
		}
		if s.IPTables.SyncPeriod.Seconds() != 30 || s.IPTables.MinSyncPeriod.Seconds() != 1 {
			t.Errorf("%s: syncs every %v, least %v", fields, s.IPTables.SyncPeriod, s.IPTables.MinSyncPeriod)
		}
	}
}
