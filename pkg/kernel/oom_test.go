package kernel

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// Everybody may raise it, and nobody beyond 1000.
func TestSetOOMScoreAdj(t *testing.T) {
	read := func() int {
		t.Helper()
		text, err := os.ReadFile("/proc/self/oom_score_adj")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	want := min(read()+1, 1000)
	for range 2 {
		if err := SetOOMScoreAdj(want); err != nil || read() != want {
			t.Errorf("%v, and it is %d instead of %d", err, read(), want)
		}
	}
	if err := SetOOMScoreAdj(1001); err == nil || !strings.Contains(err.Error(), "oom_score_adj=1001") || read() != want {
		t.Errorf("1001: %v, and it is %d", err, read())
	}
}
