// Command chaos runs svcproxy, or kube-proxy, on a node with a real API server, has
// clients open connections to Services all the while, and makes one thing after the
// other go wrong: docs/reliability.md says what, and what came of it. "chaos -h" says
// what it needs.
//
// It runs itself a second time, in namespaces of its own, and everything else in
// there. The kernel ends all of it with that process, however it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"svcproxy/hack/internal/sandbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "chaos:", err)
		return 2
	}
	if opts.document != "" {
		err = document(opts.document, opts.results)
	} else {
		work := func() error { return inside(ctx, opts, stderr) }
		err = sandbox.Program(ctx, args, stdout, stderr, errors.New("the run has failed"), work)
	}
	if err != nil {
		fmt.Fprintln(stderr, "chaos:", err)
		return 1
	}
	return 0
}

// scratch is where everything is written while it runs. It is in memory, and of the
// sandbox alone.
const scratch = "/run/chaos"

// inside plays and writes down what came of it, in the sandbox.
func inside(ctx context.Context, opts *options, stderr io.Writer) error {
	if err := sandbox.Enter(); err != nil {
		return err
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return err
	}
	result, err := play(ctx, opts, scratch, func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) })
	if err != nil {
		return err
	}
	if opts.json != "" {
		if err := result.write(opts.json); err != nil {
			return err
		}
	}
	if len(result.Violations) > 0 {
		return fmt.Errorf("%d times something was not as it has to be", len(result.Violations))
	}
	return nil
}
