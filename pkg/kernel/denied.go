package kernel

import (
	"errors"
	"os/exec"
	"regexp"
	"syscall"
)

// deniedWords is what the commands say who may not do what they are asked.
var deniedWords = regexp.MustCompile(`you must be root|[Pp]ermission denied|Operation not permitted`)

// Denied reports whether an error is that this process may not read or write tables:
// nft takes CAP_NET_ADMIN, legacy CAP_NET_RAW as well.
func Denied(err error) bool {
	var e *exitError
	if errors.As(err, &e) {
		return deniedWords.MatchString(e.stderr)
	}
	var run *exec.Error
	return !errors.As(err, &run) && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES))
}
