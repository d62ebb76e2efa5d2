package api

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"svcproxy/hack/internal/process"
	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

const nodeName = "here"

// daemon is svcproxy at work.
type daemon struct {
	*process.Process
	bin, kubeconfig string
}

// newDaemon starts svcproxy as the user that the manifests make.
func newDaemon(t *testing.T, c *controlPlane, bin string) *daemon {
	t.Helper()
	d := &daemon{bin: bin, kubeconfig: c.Kubeconfig(svcproxyUser())}
	var err error
	d.Process, err = process.Start(filepath.Join(t.TempDir(), "svcproxy.log"), nil, bin, append(d.flags(), "-v=4", "--iptables-min-sync-period=0s")...)
	c.must(err)
	t.Cleanup(func() { end(t, d.Process) })
	return d
}

func (d *daemon) flags() []string {
	return []string{"--kubeconfig", d.kubeconfig, "--hostname-override", nodeName, "--iptables-backend", "legacy",
		"--cluster-cidr", "10.21.0.0/16,fd00:10:21::/48"}
}

// settled waits until the kernel has what a fresh start would write, in both
// families.
func (d *daemon) settled(t *testing.T, what string) {
	t.Helper()
	var differs string
	end := time.Now().Add(60 * time.Second)
	for {
		if differs = d.differs(t); differs == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: the kernel still differs from a fresh load:\n%s\n%s", what, differs, d.Tail(10))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (d *daemon) differs(t *testing.T) string {
	t.Helper()
	host := kernel.NewHost(kernel.Legacy)
	defer host.Close()
	for _, f := range rules.Families() {
		k, err := host.Tables(f)
		if err != nil {
			t.Fatal(err)
		}
		have, err := k.Read(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if plan := rules.NewPlan(have, d.fresh(t, f), 0); !plan.Empty() {
			return string(rules.RenderPlan(plan))
		}
	}
	return ""
}

// fresh is what a new svcproxy would write.
func (d *daemon) fresh(t *testing.T, f rules.Family) *rules.Ruleset {
	t.Helper()
	text, err := d.dryRun(f)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := rules.ParseSave([]byte(text), f)
	if err != nil {
		t.Fatal(err)
	}
	return rules.Own(f, tables)
}

func (d *daemon) dryRun(f rules.Family) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.bin, append(d.flags(), "--dry-run", "--ip-family", f.String())...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	err := cmd.Run()
	return stdout.String(), err
}

// has waits until the kernel's rules hold a text, and is then settled.
func (d *daemon) has(t *testing.T, f rules.Family, text string) {
	t.Helper()
	eventually(t, 30*time.Second, "the rules have "+text, func() bool { return strings.Contains(saved(t, f), text) })
	d.settled(t, text)
}

// hasNot waits until they do not.
func (d *daemon) hasNot(t *testing.T, f rules.Family, text string) {
	t.Helper()
	eventually(t, 30*time.Second, "the rules have no "+text, func() bool { return !strings.Contains(saved(t, f), text) })
	d.settled(t, "no "+text)
}

// saved returns all rules of the kernel, without counters and comments.
func saved(t *testing.T, f rules.Family) string {
	t.Helper()
	tool := "iptables-legacy-save"
	if f == rules.IPv6 {
		tool = "ip6tables-legacy-save"
	}
	out, err := exec.Command(tool).Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	var all strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "-A ") {
			all.WriteString(line)
		}
	}
	return all.String()
}
