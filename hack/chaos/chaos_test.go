package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"svcproxy/hack/internal/sandbox"
)

// The test needs binaries that take minutes to build, so it runs only if this names
// the folder they are in; "make test-api" builds them and sets it.
const binVariable = "SVCPROXY_TEST_API_BIN"

func TestMain(m *testing.M) {
	if os.Getenv(binVariable) == "" {
		os.Exit(m.Run())
	}
	os.Exit(sandbox.Tests(m.Run))
}

// seedOfTest makes each run the same as far as it can be: order and moments of the
// faults, and changes of objects, but not what happens at once.
const seedOfTest = 20261129

// TestChaos is the short form of what docs/reliability.md is about: svcproxy loses no
// connection that it need not lose, and leaves nothing behind.
func TestChaos(t *testing.T) {
	bin := os.Getenv(binVariable)
	if bin == "" {
		t.Skip("needs Kubernetes' binaries: run make test-api")
	}
	svcproxy := filepath.Join(t.TempDir(), "svcproxy")
	if out, err := exec.Command("go", "build", "-o", svcproxy, "../../cmd/svcproxy").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			kind, err := kindOf("svcproxy", backend)
			if err != nil {
				t.Fatal(err)
			}
			opts := &options{bin: bin, svcproxy: svcproxy, kind: kind, seed: seedOfTest, brief: true, within: time.Minute,
				faults: []string{"killed-writing", "events-missed", "restore-fails", "restore-killed", "disk-full", "firewall-reloaded", "chain-deleted", "endpoint-storm"}}
			result, err := play(t.Context(), opts, t.TempDir(), t.Logf)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range result.Violations {
				t.Error(v)
			}
		})
	}
}

func TestMembers(t *testing.T) {
	m := &members{}
	m.join([]string{"a", "b"})
	m.leave([]string{"b"})
	now := time.Now()
	for _, test := range []struct {
		pod         string
		began       time.Time
		right, once bool
	}{
		{"b", now.Add(time.Hour), true, true},
		{"a", now, true, true},
		{"a", now.Add(2 * grace), false, true},
		{"c", now, false, false},
	} {
		if right, once := m.serves(test.pod, test.began, grace); right != test.right || once != test.once {
			t.Errorf("%s after %v: right %t, once %t", test.pod, test.began.Sub(now), right, once)
		}
	}
	m.join([]string{"a"})
	if right, _ := m.serves("a", now.Add(time.Hour), grace); !right {
		t.Error("a pod that came back is not right")
	}
}

func TestStatesAreCompared(t *testing.T) {
	one, other := state{}, state{}
	one.add("", ":A - [0:0]\n:B - [1:2]\n-A B -j A\n-A B -j RETURN\n")
	other.add("", ":B - [0:0]\n:A - [0:0]\n-A B -j A\n-A B -j RETURN\n")
	if d := one.differs(other); d != "" {
		t.Errorf("the same rules: %s", d)
	}
	for _, saved := range []string{":A - [0:0]\n", ":C - [0:0]\n-A B -j RETURN\n"} {
		changed := state{}
		changed.add("", ":A - [0:0]\n:B - [1:2]\n-A B -j A\n"+saved)
		if changed.differs(one) == "" {
			t.Errorf("%q differs", saved)
		}
	}
}

func TestPageIsWritten(t *testing.T) {
	dir := t.TempDir()
	page, file := filepath.Join(dir, "page.md"), filepath.Join(dir, "result")
	r := &result{Proxy: "svcproxy", Backend: "nft", Trials: []trial{
		{Fault: "killed", Tally: tally{Opened: 10}, Heal: time.Second},
		{Fault: "killed", Tally: tally{Opened: 5, Lost: 1, Broken: 1, Stale: 3}, Heal: -1},
	}}
	if err := r.write(file); err != nil {
		t.Fatal(err)
	}
	if err := document(page, []string{file}); err != nil {
		t.Fatal(err)
	}
	if got, want := r.of("killed"), []string{"2", "15", "1, 1 kept, 3 stale", "1.0 s; not: 1 of 2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults() {
		if !strings.Contains(string(text), "- **"+f.name+"**: ") {
			t.Errorf("%s is not described", f.name)
		}
	}
}
