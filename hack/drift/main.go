// Command drift measures how long svcproxy takes to set right what others do to its
// rules, and what watching over them costs while nobody does anything. It prints the
// tables of docs/drift.md; "drift -h" says what it needs.
//
// It runs itself a second time in namespaces of its own, where it is alone with
// svcproxy. The kernel ends all of it with that process, however it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"svcproxy/hack/internal/sandbox"
)

const help = `drift measures how svcproxy heals its rules, in namespaces of its own.

    drift [-svcproxy FILE] [-services 100,10000] [-backends nft,legacy] [-rounds 5] [-idle 1m]

It needs root, iproute2 and iptables with both backends. The whole run takes about fifteen
minutes. Figures of a machine that does other things meanwhile are not worth much.

`

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
		fmt.Fprintln(stderr, "drift:", err)
		return 2
	}
	work := func() error { return inside(ctx, opts, stdout, stderr) }
	if err := sandbox.Program(ctx, args, stdout, stderr, errors.New("not measured to the end"), work); err != nil {
		fmt.Fprintln(stderr, "drift:", err)
		return 1
	}
	return 0
}

// options is the command line.
type options struct {
	svcproxy string
	services []int
	backends []string
	rounds   int
	idle     time.Duration
}

func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("drift", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(stderr, help)
		fs.PrintDefaults()
	}
	fs.StringVar(&o.svcproxy, "svcproxy", "bin/svcproxy", "`file` to measure")
	services := fs.String("services", "100,10000", "`numbers` of Services with 2 endpoints each, at most 60000")
	backends := fs.String("backends", "nft,legacy", "`names` of iptables' backends")
	fs.IntVar(&o.rounds, "rounds", 5, "how often each thing is done; at most 9, since who insists is healed less often")
	fs.DurationVar(&o.idle, "idle", time.Minute, "how long nothing is done while CPU time is counted; 0: leave that out")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	for _, word := range strings.Split(*services, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > 60000 {
			return nil, fmt.Errorf("-services: %q: must be a number from 1 to 60000", word)
		}
		o.services = append(o.services, n)
	}
	o.backends = strings.Split(*backends, ",")
	for _, b := range o.backends {
		if !slices.Contains([]string{"nft", "legacy"}, b) {
			return nil, fmt.Errorf("-backends: %q: must be nft or legacy", b)
		}
	}
	if o.rounds < 1 || o.rounds > 9 {
		return nil, errors.New("-rounds: must be 1 to 9")
	}
	if fs.NArg() > 0 {
		return nil, errors.New("there are flags alone")
	}
	return o, nil
}
