package kernel

import (
	"os"
	"path/filepath"
	"testing"
)

// A lock file that was deleted, and is made anew by the next command, tells of the
// commands after that as well.
func TestALockFileIsWatchedAlthoughItIsMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "xtables.lock")
	t.Setenv("XTABLES_LOCKFILE", path)
	run := func() { // as a command does
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := newXTLock()
	defer l.close()
	before := l.runs()
	counts := func(what string) {
		t.Helper()
		now := l.runs()
		if now == before {
			t.Errorf("%s is not counted", what)
		}
		if before = now; l.runs() != now {
			t.Errorf("after %s nothing was run, and something is counted", what)
		}
	}
	run()
	counts("the command that made the file")
	run()
	counts("another one")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l.runs()
	before = l.runs()
	run()
	counts("the command that made the file anew")
	run()
	counts("another one after that")
}
