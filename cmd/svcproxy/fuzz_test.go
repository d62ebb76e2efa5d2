package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/rules/rulestest"
)

const fuzzService = `
{apiVersion: v1, kind: Service, metadata: {namespace: ns, name: web}, spec: {type: NodePort, externalTrafficPolicy: Local,
  clusterIPs: [10.96.0.1, "fd00:10:96::1"], ports: [{port: 80, nodePort: 30080}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: ns, name: web-4, labels: {kubernetes.io/service-name: web}},
  addressType: IPv4, ports: [{name: "", port: 8080}], endpoints: [{addresses: [10.21.1.2], nodeName: here}, {addresses: [10.21.3.2]}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: ns, name: web-6, labels: {kubernetes.io/service-name: web}},
  addressType: IPv6, ports: [{name: "", port: 8080}], endpoints: [{addresses: ["fd00:10:21:1::2"], nodeName: here}]}
`

// Whatever stands in flags or the configuration file: it is refused, or the input for
// iptables-restore holds a line for each rule and no others.
func FuzzConfiguration(f *testing.F) {
	const evil = "x\n-A INPUT -j ACCEPT\nCOMMIT\n*nat"
	for mode := range uint8(5) {
		for _, file := range []bool{false, true} {
			f.Add(mode, file, "10.21.0.0/16,fd00:10:21::/48", "cni0", "cali", "primary", "here")
			f.Add(mode, file, evil, evil, evil, evil, evil)
			f.Add(mode, file, "10.21.0.0/16 -j ACCEPT", "a b", "\"", "10.0.0.0/8,::1/128", "here\r\n*filter")
			f.Add(mode, file, "", "!", "-", "localhost", " ")
		}
	}
	f.Fuzz(func(t *testing.T, mode uint8, file bool, cidr, bridge, prefix, nodePorts, hostname string) {
		modes := []string{"", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"}
		c := fuzzedConfiguration{modes[int(mode)%len(modes)], cidr, bridge, prefix, nodePorts, hostname}
		args := c.flags()
		if file {
			args = c.file(t)
		}
		o := &options{stdin: strings.NewReader(fuzzService)}
		fs := pflag.NewFlagSet("svcproxy", pflag.ContinueOnError)
		fs.SetOutput(io.Discard)
		o.addFlags(fs)
		if fs.Parse(append(args, "-f", "-")) != nil || o.complete() != nil {
			return
		}
		snap, _, err := o.snapshot(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range rules.Families() {
			want := rules.Build(snap, o.config(f))
			rulestest.CheckRestore(t, want)
			plan := rules.RenderPlan(rules.NewPlan(&rules.Ruleset{Family: f}, want, 0))
			heading, ok := bytes.CutSuffix(dump(snap, o.config(f)), plan)
			if !ok || heading[0] != '#' || bytes.IndexByte(heading, '\n') != len(heading)-1 || bytes.ContainsRune(heading, '\r') {
				t.Fatalf("a dry run begins with %q, not with one line of comment", heading)
			}
		}
	})
}

type fuzzedConfiguration struct{ mode, cidr, bridge, prefix, nodePorts, hostname string }

func (c *fuzzedConfiguration) flags() []string {
	return []string{
		"--detect-local-mode=" + c.mode, "--cluster-cidr=" + c.cidr, "--pod-bridge-interface=" + c.bridge,
		"--pod-interface-name-prefix=" + c.prefix, "--nodeport-addresses=" + c.nodePorts, "--hostname-override=" + c.hostname,
	}
}

// file writes a configuration file and returns the flag that names it.
func (c *fuzzedConfiguration) file(t *testing.T) []string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"detectLocalMode": c.mode, "clusterCIDR": c.cidr, "hostnameOverride": c.hostname, "nodePortAddresses": strings.Split(c.nodePorts, ","),
		"detectLocal": map[string]string{"bridgeInterface": c.bridge, "interfaceNamePrefix": c.prefix},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.conf")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--config", path}
}
