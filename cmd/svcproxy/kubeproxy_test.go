package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"svcproxy/pkg/rules"
)

// Each testdata/kube-proxy/*.txtar holds objects and what the real kube-proxy
// made of them (hack/kubernetes/record records it). The last line of its comment is the
// flags that both proxies get. "fates" says what kube-proxy's rules do to every
// packet of a matrix made from the objects; svcproxy must do the same, save for
// what stands in "differences" under a heading of docs/differences.md.
func TestEveryPacketFaresAsWithKubeProxy(t *testing.T) {
	paths, err := filepath.Glob("testdata/kube-proxy/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	packets, different := 0, 0
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			p, d := compareCase(t, path)
			packets, different = packets+p, different+d
		})
	}
	t.Logf("%d cases, %d packets, %d of them with a listed difference", len(paths), packets, different)
}

func compareCase(t *testing.T, path string) (packets, different int) {
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := kubeProxyCase{archive: a, objects: readObjects(t, section(a, "objects.yaml"))}
	var peer, diffs strings.Builder
	for _, f := range rules.Families() {
		theirs, ours := c.compare(t, f)
		d := ours.without(theirs)
		peer.WriteString(theirs.String())
		diffs.WriteString(d.String())
		packets, different = packets+len(ours.flows), different+len(d.flows)
	}
	reasons, listed := splitReasons(section(a, "differences"))
	if *update {
		set(a, "fates", peer.String())
		if diffs.Len() > 0 {
			set(a, "differences", reasons+diffs.String())
		}
		if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return packets, different
	}
	if diff := cmp.Diff(string(section(a, "fates")), peer.String()); diff != "" {
		t.Errorf("fates of kube-proxy's rules (-recorded +walked):\n%s", diff)
	}
	if diff := cmp.Diff(listed, diffs.String()); diff != "" {
		t.Errorf("what svcproxy does differently (-listed +found):\n%s", diff)
	}
	checkReasons(t, reasons, different)
	return packets, different
}

type kubeProxyCase struct {
	archive *txtar.Archive
	objects *apiObjects
}

// compare sends the matrix of one family through both proxies' rules.
func (c *kubeProxyCase) compare(t *testing.T, f rules.Family) (theirs, ours fates) {
	t.Helper()
	save := "iptables-save"
	if f == rules.IPv6 {
		save = "ip6tables-save"
	}
	text := section(c.archive, save)
	peer, err := rules.ParseSave(text, f)
	if err != nil {
		t.Fatal(err)
	}
	checkParsed(t, peer)
	var flows []flow
	for _, to := range c.objects.destinations(f) {
		for _, from := range c.objects.positions(f, recentLists(peer)) {
			flows = append(flows, flow{to, from})
		}
	}
	own := c.objects.nodeAddresses()
	return walkAll(t, text, f, own, flows), walkAll(t, c.dryRun(t, f), f, own, flows)
}

// dryRun is what svcproxy prints for the case's objects and flags.
func (c *kubeProxyCase) dryRun(t *testing.T, f rules.Family) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, section(c.archive, "objects.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--dry-run", "-f", file, "--hostname-override", c.objects.node.Name, "--ip-family", f.String()}
	args = append(args, strings.Fields(lastLine(string(c.archive.Comment)))...)
	var stdout, stderr bytes.Buffer
	if status := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr); status == 2 {
		t.Fatalf("%v: %s", args, &stderr)
	}
	return stdout.Bytes()
}

// checkParsed: no rule holds anything that the parser does not know.
func checkParsed(t interface{ Errorf(string, ...any) }, tables []rules.Table) {
	for _, table := range tables {
		for _, c := range table.Chains {
			for _, r := range c.Rules {
				if x := r.Rare(); x.Unparsed != "" {
					t.Errorf("%s %s: not understood: %s", table.Name, c.Name, x.Unparsed)
				}
			}
		}
	}
}

// recentLists are the lists by which the rules know a client again.
func recentLists(tables []rules.Table) []string {
	var out []string
	for _, t := range tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				if list := r.Rare().Recent.List; list != "" {
					out = append(out, list)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// splitReasons cuts the leading lines that name headings of docs/differences.md.
func splitReasons(text []byte) (reasons, rest string) {
	rest = string(text)
	for strings.HasPrefix(rest, "# ") {
		line, after, _ := strings.Cut(rest, "\n")
		reasons, rest = reasons+line+"\n", after
	}
	return reasons, rest
}

// checkReasons: whoever lists a difference says where it is explained.
func checkReasons(t *testing.T, reasons string, different int) {
	t.Helper()
	if (reasons != "") != (different > 0) {
		t.Errorf("%d packets fare differently, and the reasons are %q", different, reasons)
	}
	doc, err := os.ReadFile("../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(reasons) {
		if !bytes.Contains(doc, []byte("\n#"+line)) {
			t.Errorf("docs/differences.md has no heading %q", strings.TrimSpace(line))
		}
	}
}

func section(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func set(a *txtar.Archive, name, text string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(text)
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(text)})
}
