// Command bench measures svcproxy beside the real kube-proxy: how long rules
// take to get into the kernel, what that costs, and what they cost a connection.
// The page that it writes says what the figures mean; "bench -h" what it needs.
//
// It runs itself a second time, in namespaces of its own, and everything else in
// there: a control plane, the pods, and a network namespace for each proxy. The
// kernel ends all of it with that process, however it ends.
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
	"time"

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
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	work := func() error { return inside(ctx, opts, stdout, stderr) }
	if err := sandbox.Program(ctx, opts.args, stdout, stderr, errors.New("not measured to the end"), work); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// scratch is where everything is written while the bench runs. It is in memory,
// and of the sandbox alone.
const scratch = "/run/bench"

// inside measures and reports, in the sandbox.
func inside(ctx context.Context, opts *options, stdout, stderr io.Writer) error {
	if err := prepare(); err != nil {
		return err
	}
	b, err := newBench(ctx, opts, stderr)
	if err != nil {
		return err
	}
	if err := b.run(ctx); err != nil {
		return err
	}
	return report(b.results, opts, time.Since(b.began), stdout)
}

// prepare makes the sandbox a network of control plane and pods.
func prepare() error {
	if err := sandbox.Enter(); err != nil {
		return err
	}
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return err
	}
	return sandbox.IP("addr add "+controlIP.String()+"/32 dev lo",
		// Every pod is here, whatever its address.
		"route add local "+podNetwork.String()+" dev lo",
		// A packet to a Service without rules comes here, and is refused at once.
		"route add local "+serviceNetwork.String()+" dev lo")
}
