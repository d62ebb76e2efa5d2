package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"svcproxy/pkg/kernel/kerneltest"
)

var update = flag.Bool("update", false, "write the goldens anew")

func TestInitOnlySetsSysctls(t *testing.T) {
	kerneltest.Enter(t)
	args := []string{"--init-only", "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-close-wait=77m"}
	var stdout, stderr bytes.Buffer
	if status := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr); status != 0 || stdout.Len()+stderr.Len() > 0 {
		t.Fatalf("status %d, %s%s", status, &stdout, &stderr)
	}
	got := strings.Fields(kerneltest.Run(t, "", "sysctl", "-n", "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
		"net.netfilter.nf_conntrack_tcp_timeout_established", "net.ipv4.conf.all.route_localnet"))
	if want := []string{"4620", "86400", "1"}; !slices.Equal(got, want) {
		t.Errorf("close wait, established and route_localnet are %v, want %v", got, want)
	}
}

// Each testdata/*.txtar holds a command line in its comment, the objects as
// files, and what the real command prints: stdout, stderr and, last, its exit
// status. The files stand in the folder "in".
func TestGoldens(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { golden(t, path) })
	}
}

func golden(t *testing.T, path string) {
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	wants := map[string]string{}
	var inputs []txtar.File
	for _, f := range a.Files {
		if name, ok := strings.CutPrefix(f.Name, "in/"); ok {
			inputs = append(inputs, f)
			if err := os.WriteFile(filepath.Join(dir, name), f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		wants[f.Name] = string(f.Data)
	}
	args := strings.Fields(strings.ReplaceAll(lastLine(string(a.Comment)), "IN", dir))
	var stdout, stderr bytes.Buffer
	status := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr)
	got := []txtar.File{
		{Name: "stdout", Data: bytes.ReplaceAll(stdout.Bytes(), []byte(dir), []byte("IN"))},
		{Name: "stderr", Data: bytes.ReplaceAll(stderr.Bytes(), []byte(dir), []byte("IN"))},
		{Name: "status", Data: []byte{byte('0' + status), '\n'}},
	}
	if *update {
		a.Files = append(inputs, got...)
		if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, f := range got {
		if diff := cmp.Diff(wants[f.Name], string(f.Data)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f.Name, diff)
		}
	}
}

// lastLine is the command line: what stands before it explains.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"--no-such-flag"}, {"argument"}, {"--dry-run", "--once"}, {"--ip-family=ipv5"}, {"--cluster-cidr=10.0.0.0"},
		{"--cluster-cidr=10.0.0.0/8,10.1.0.0/16"}, {"--iptables-masquerade-bit=32"}, {"--iptables-backend=bpf"},
		{"-f", "x", "--kubeconfig", "y"}, {"--iptables-sync-period=0s"},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr); status != 2 || stderr.Len() == 0 || stdout.Len() != 0 {
			t.Errorf("%v: status %d, stdout %q, stderr %q; want 2 and a word on stderr", args, status, &stdout, &stderr)
		}
	}
}

// What kubectl prints is one List.
func TestDryRunReadsKubectlsListFromStdin(t *testing.T) {
	svc := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"ns"},"spec":{"clusterIP":"10.96.0.9","ports":[{"port":80,"protocol":"TCP"}]}}`
	eps := `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"web-1","namespace":"ns","labels":{"kubernetes.io/service-name":"web"}},` +
		`"addressType":"IPv4","ports":[{"name":"","port":8080,"protocol":"TCP"}],"endpoints":[{"addresses":["10.21.0.9"]}]}`
	list := `{"apiVersion":"v1","kind":"List","items":[` + svc + `,` + eps + `,{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}]}`
	var stdout, stderr bytes.Buffer
	if status := run(context.Background(), []string{"--dry-run", "-f", "-"}, strings.NewReader(list), &stdout, &stderr); status != 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	if !strings.Contains(stdout.String(), "--to-destination 10.21.0.9:8080") {
		t.Errorf("the endpoint is not served:\n%s", &stdout)
	}
}

// Whoever has nothing to say on stdin after all can end the program.
func TestDryRunEndsWhileStdinIsOpen(t *testing.T) {
	stdin, open, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = open.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended := make(chan int, 1)
	var stdout, stderr bytes.Buffer
	go func() { ended <- run(ctx, []string{"--dry-run", "-f", "-"}, stdin, &stdout, &stderr) }()
	select {
	case status := <-ended:
		if status != 1 || !strings.Contains(stderr.String(), "context canceled") {
			t.Errorf("status %d: %s", status, &stderr)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}

func TestMissingFileIsNamed(t *testing.T) {
	var stdout, stderr bytes.Buffer
	status := run(context.Background(), []string{"--dry-run", "-f", "/no/such/file.yaml"}, strings.NewReader(""), &stdout, &stderr)
	if status != 1 || !strings.Contains(stderr.String(), "/no/such/file.yaml") {
		t.Errorf("status %d, stderr %q", status, &stderr)
	}
}
