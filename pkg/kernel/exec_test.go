package kernel

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is long enough for anything that does not hang.
const patience = 30 * time.Second

// TestHangingCommandIsKilledWithItsChildren: a child would hold the output of the
// command open, and whoever waits for that would wait for ever.
func TestHangingCommandIsKilledWithItsChildren(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, _, _, err := execute(ctx, nil, "/bin/sh", "-c", `sleep 1000 & echo $! >"$0"; wait`, pid)
		done <- err
	}()
	child := awaitFile(t, pid)
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want that it was killed", err)
		}
	case <-time.After(patience):
		t.Fatal("the command was not given up")
	}
	awaitEnd(t, child)
}

// TestCommandEndsWithItsParent: what a proxy that was killed was about to write
// may not be true any more when another one runs.
func TestCommandEndsWithItsParent(t *testing.T) {
	const variable = "SVCPROXY_TEST_PID_FILE"
	if pid := os.Getenv(variable); pid != "" {
		_, _, _, _ = execute(context.Background(), nil, "/bin/sh", "-c", `echo $$ >"$0"; exec sleep 1000`, pid)
		return
	}
	pid := filepath.Join(t.TempDir(), "pid")
	parent := exec.Command("/proc/self/exe", "-test.run=^TestCommandEndsWithItsParent$")
	parent.Env = append(os.Environ(), variable+"="+pid)
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	child := awaitFile(t, pid)
	_ = parent.Process.Kill()
	_ = parent.Wait()
	awaitEnd(t, child)
}

func TestTimeoutGrowsWithInput(t *testing.T) {
	for _, c := range []struct {
		bytes int
		want  time.Duration
	}{{0, 2 * time.Minute}, {1, 30 * time.Second}, {1_000_000, 40 * time.Second}} {
		if got := timeout(make([]byte, c.bytes)); got != c.want {
			t.Errorf("%d bytes: %v, want %v", c.bytes, got, c.want)
		}
	}
}

// awaitFile returns the line of a file that is about to be written.
func awaitFile(t *testing.T, path string) string {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(path); err == nil && strings.HasSuffix(string(text), "\n") {
			return strings.TrimSpace(string(text))
		}
	}
	t.Fatalf("%s was not written", path)
	return ""
}

// awaitEnd waits until a process has ended; one that nobody waited for has.
func awaitEnd(t *testing.T, pid string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil || strings.Contains(string(status), "State:\tZ") {
			return
		}
	}
	t.Errorf("process %s still runs", pid)
}
