package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// iptables takes two rules for the same only if their matches have the same order.
// So the jumps must be kube-proxy's to the letter: else either would put its own
// beside the other's, and could not delete them.
func TestJumpsAreKubeProxysToTheLetter(t *testing.T) {
	a, err := txtar.ParseFile("testdata/kube-proxy/01-nginx.txtar")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--dry-run", "--ip-family=ipv4", "--hostname-override=peer-node", "-f", "-"}
	var stdout, stderr bytes.Buffer
	if status := run(context.Background(), args, bytes.NewReader(section(a, "objects.yaml")), &stdout, &stderr); status != 0 {
		t.Fatalf("status %d: %s", status, &stderr)
	}
	ours := jumpLines(strings.ReplaceAll(stdout.String(), "-I ", "-A "))
	theirs := jumpLines(string(section(a, "iptables-save")))
	if len(theirs) == 0 {
		t.Fatal("kube-proxy's record has no jumps")
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("jumps from built-in chains (-kube-proxy +svcproxy):\n%s", diff)
	}
}

// jumpLines returns the rules of built-in chains, sorted.
func jumpLines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "-A ") && !strings.HasPrefix(line, "-A KUBE-") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	slices.Sort(out)
	return out
}
