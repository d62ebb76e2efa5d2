package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const about = "proxy: svcproxy v0.1\ntests: e2e.test v1.37.2\ncluster: Kubernetes v1.37.2\nnodes: a b c\nsystem: Debian, Linux 6\ndate: 2026-01-02\n"

const services = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite name="Kubernetes e2e suite" time="61.4">
<testcase name="[SynchronizedBeforeSuite]" status="passed"/>
<testcase name="[It] [sig-network] Services should serve [Conformance] [sig-network, Conformance]" status="passed"/>
<testcase name="[It] [sig-network] Services should affine a|b [LinuxOnly] [sig-network]" status="failed">
  <failure message="timed out:&#xA;more" type="failed">where</failure></testcase>
<testcase name="[It] [sig-network] Services should panic [sig-network]" status="panicked"><error message="nil"/></testcase>
<testcase name="[It] [sig-network] Services should want zones [sig-network]" status="skipped">
  <skipped message="skipped - need 3 zones"/></testcase>
<testcase name="[It] [sig-storage] Volumes should mount [sig-storage]" status="skipped"><skipped message="skipped"/></testcase>
</testsuite></testsuites>`

func results(t *testing.T, runs map[string]map[string]string) string {
	dir := t.TempDir()
	for run, files := range runs {
		for name, text := range files {
			path := filepath.Join(dir, run, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestTables(t *testing.T) {
	passed := strings.NewReplacer(`status="failed"`, `status="passed"`, "<failure", "<ignored", "</failure", "</ignored").Replace(services)
	runs, err := readRuns(results(t, map[string]map[string]string{
		"svcproxy-flannel":   {"about": about, "services.xml": services, "proxy.xml": services},
		"kube-proxy-flannel": {"about": about, "services.xml": passed},
		"something-else":     {"about": about},
	}))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	write(&out, runs)
	for _, want := range []string{
		"|  | svcproxy, flannel | kube-proxy, flannel |\n|---|---|---|\n",
		"| [sig-network] Services | 1 pass, 2 fail, 1 skip, in 1m1s | 2 pass, 1 fail, 1 skip, in 1m1s |\n",
		"that need the service proxy | 1 pass, 2 fail, 1 skip, in 1m1s | not run |\n",
		"| nodes | a b c | a b c |\n",
		"| Services should serve [Conformance] | pass | pass |\n",
		"| Services should affine a\\|b [LinuxOnly] | **fail** | pass |\n",
		"| Services should panic | **fail** | not run |\n",
		"- Services should affine a|b [LinuxOnly]: timed out (svcproxy, flannel)\n",
		"- Services should want zones: need 3 zones (svcproxy, flannel; kube-proxy, flannel)\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q", want)
		}
	}
	if strings.Contains(out.String(), "Volumes") {
		t.Error("tells of a test that was not selected")
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// What fails before the tests, such as waiting for the nodes, is told as well.
func TestSetupFails(t *testing.T) {
	s, err := parseSuite(strings.NewReader(`<testsuites><testsuite time="1">
		<testcase name="[SynchronizedBeforeSuite]" status="failed"><failure message="no nodes"/></testcase></testsuite></testsuites>`))
	if err != nil || s.tests["[SynchronizedBeforeSuite]"] != (outcome{"fail", "no nodes"}) {
		t.Errorf("%v, %v", s, err)
	}
}

func TestNothing(t *testing.T) {
	for name, files := range map[string]map[string]map[string]string{
		"no runs":    {},
		"half a run": {"svcproxy-bridge": {"about": about, "services.xml": "<testsuites>"}},
	} {
		if runs, err := readRuns(results(t, files)); err == nil {
			t.Errorf("%s: %v", name, runs)
		}
	}
}
