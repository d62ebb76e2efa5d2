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
	work := outside
	if os.Getenv(insideVariable) != "" {
		work = inside
	}
	if err := work(ctx, opts, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// inside measures and reports, in the namespaces that outside made.
func inside(ctx context.Context, opts *options, stdout, stderr io.Writer) error {
	if err := enterNamespaces(); err != nil {
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
