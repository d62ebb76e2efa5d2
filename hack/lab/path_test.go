package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"svcproxy/pkg/kernel/kerneltest"
)

const packetPath = "../../docs/packet-path.md"

// pathBlock is a block of what was printed on a host, and behind it, in a comment that
// readers do not see, the command with what picks the part that is shown.
var pathBlock = regexp.MustCompile("(?s)```(centos\\d+)\n(.*?)```\n\n<!-- (.*?) -->")

// docs/packet-path.md shows what its commands print in the scene.
func TestPacketPath(t *testing.T) {
	kerneltest.NeedRoot(t)
	bin := filepath.Join(t.TempDir(), "svcproxy")
	kerneltest.Run(t, "", "go", "build", "-o", bin, "../../cmd/svcproxy")
	const lab = "svcproxy-test-path"
	env := []string{"LAB=" + lab, "BACKEND=nft", "SVCPROXY=" + bin}
	t.Cleanup(func() { script(t, env, "down") })
	script(t, env, "up")
	askBoth(t, lab)
	text, err := os.ReadFile(packetPath)
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	want := pathBlock.ReplaceAllStringFunc(string(text), func(block string) string {
		blocks++
		m := pathBlock.FindStringSubmatch(block)
		cmd := exec.Command("ip", "netns", "exec", lab+"-"+m[1], "bash", "-euo", "pipefail", "-c", m[3])
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil || len(out) == 0 {
			t.Errorf("%s: %v\n%s", m[3], err, out)
		}
		command, _, _ := strings.Cut(m[3], " |")
		return fmt.Sprintf("```%s\n%s# %s\n%s```\n\n<!-- %s -->", m[1], m[1], command, steadyPath(string(out), lab), m[3])
	})
	if blocks < 6 {
		t.Errorf("only %d blocks were found", blocks)
	}
	if *update {
		if err := os.WriteFile(packetPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := gocmp.Diff(string(text), want); diff != "" {
		t.Errorf("docs/packet-path.md is not what is printed (go test ./hack/lab -run PacketPath -update writes it; -page +printed):\n%s", diff)
	}
}

// askBoth calls the Service until both pods have answered, so that their addresses
// are known.
func askBoth(t *testing.T, lab string) {
	t.Helper()
	answers := map[string]bool{}
	c := client(lab + "-centos100")
	for end := time.Now().Add(30 * time.Second); len(answers) < 2 && time.Now().Before(end); {
		if body, err := get(c); err == nil {
			answers[body] = true
		}
	}
	if len(answers) < 2 {
		t.Fatalf("only %v answered", answers)
	}
}

// steadyPath replaces what differs from run to run.
func steadyPath(text, lab string) string {
	for _, r := range []struct{ pattern, with string }{
		{`(?m)^( *[\d.]+%) +\d+  `, "$1  #  "},
		{`(?m)^ {20,}= `, strings.Repeat(" ", 18) + "= "},
		{`\((REACHABLE|STALE|DELAY|PROBE)\)`, "(REACHABLE)"},
		{`from 192\.168\.0\.100:\d+`, "from 192.168.0.100:40000"},
		{`as 10\.21\.0\.0:\d+`, "as 10.21.0.0:50000"},
		{`(?m), [A-Z_]+$`, ", TIME_WAIT"},
		{lab + "-", ""},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
	}
	return text
}
