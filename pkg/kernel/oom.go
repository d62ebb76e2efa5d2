package kernel

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// SetOOMScoreAdj tells the kernel how much sooner than others (up to 1000) or
// later (down to -1000) to end this process where memory is short. Less than it
// has takes CAP_SYS_RESOURCE.
func SetOOMScoreAdj(score int) error {
	const path = "/proc/self/oom_score_adj"
	want := strconv.Itoa(score)
	if has, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(has)) == want {
		return nil
	}
	if err := os.WriteFile(path, []byte(want), 0); err != nil {
		return fmt.Errorf("set oom_score_adj=%s: %w", want, err)
	}
	return nil
}
