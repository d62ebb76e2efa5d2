// Command svcproxy turns Kubernetes Services into iptables rules on a node, in
// the place of kube-proxy.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program. It returns the exit status: 0 done, 1 failed or some
// object is bad, 2 wrong usage; some commands have their own.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cmd := newCommand(stdin)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "svcproxy: %v\nTry 'svcproxy --help'.\n", err)
		return 2
	}
	var answer statusError
	if !errors.As(err, &answer) {
		answer = statusError{1, err}
	}
	if answer.err != nil {
		fmt.Fprintf(stderr, "svcproxy: %v\n", answer.err)
	}
	return answer.status
}

// statusError is the end of a command with an exit status of its own.
type statusError struct {
	status int
	err    error // nil: the status is the answer, and nothing failed
}

func (e statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e statusError) Unwrap() error { return e.err }

// usageError is a command line that cannot be carried out.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}
