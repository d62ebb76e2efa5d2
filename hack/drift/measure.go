package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"svcproxy/hack/internal/sandbox"
	"svcproxy/hack/internal/wait"
)

// column is what was measured at one size on one backend.
type column struct {
	name  string
	times map[string][]time.Duration // by mishap
	idle  float64                    // share of a core
}

// inside measures and prints, in the sandbox.
func inside(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	if err := sandbox.Enter(); err != nil {
		return err
	}
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return err
	}
	var columns []*column
	for _, services := range o.services {
		objects, err := writeObjects(services)
		if err != nil {
			return err
		}
		for _, backend := range o.backends {
			c := &column{name: fmt.Sprintf("%d Services, %s", services, backend), times: map[string][]time.Duration{}}
			n := &node{svcproxy: o.svcproxy, backend: backend, objects: objects}
			if err := measureNode(ctx, o, n, c, stderr); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			columns = append(columns, c)
		}
	}
	return printTables(stdout, o, columns)
}

// measureNode measures on one backend, and leaves nothing behind there.
func measureNode(ctx context.Context, o *options, n *node, c *column, stderr io.Writer) error {
	if err := measureIdle(ctx, o, n, c); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%s: idle %.2f %% of a core\n", c.name, 100*c.idle)
	for _, m := range mishaps() {
		// Another process for each, since one that is disturbed again and again takes
		// its time.
		if err := n.start(ctx); err != nil {
			return err
		}
		for range o.rounds {
			took, err := measureMishap(ctx, n, &m)
			if err != nil {
				return fmt.Errorf("%s: %w", m.what, err)
			}
			c.times[m.what] = append(c.times[m.what], took)
		}
		n.stop()
		fmt.Fprintf(stderr, "%s: %s: %v, load %s\n", c.name, m.what, c.times[m.what], load())
	}
	return n.cleanUp(ctx)
}

// settle is longer than --iptables-sync-period, after which what was written at the
// start is read once more.
const settle = 40 * time.Second

// measureIdle counts the CPU time of svcproxy, and of what it runs, while nobody does
// anything.
func measureIdle(ctx context.Context, o *options, n *node, c *column) error {
	if o.idle == 0 {
		return nil
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	defer n.stop()
	if err := wait.Sleep(ctx, settle); err != nil {
		return err
	}
	before, err := n.proxy.CPU()
	if err != nil {
		return err
	}
	if err := wait.Sleep(ctx, o.idle); err != nil {
		return err
	}
	after, err := n.proxy.CPU()
	c.idle = (after - before).Seconds() / o.idle.Seconds()
	return err
}

// measureMishap returns how long it takes from when a command has done its damage to
// when svcproxy has set that right, and checks that it has.
func measureMishap(ctx context.Context, n *node, m *mishap) (time.Duration, error) {
	n.forget()
	if err := m.happen(n.backend); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := n.healed(ctx); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if err := n.right(ctx); err != nil {
		return 0, err
	}
	if err := m.clean(n.backend); err != nil {
		return 0, err
	}
	return took, n.ready(ctx, m.undo != "")
}

// load is what the kernel says of the last minute: processes that want to run.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// printTables writes the tables of docs/drift.md: the median, and the longest.
func printTables(w io.Writer, o *options, columns []*column) error {
	var b strings.Builder
	head, rule := "| |", "|---|"
	for _, c := range columns {
		head, rule = head+" "+c.name+" |", rule+"---|"
	}
	b.WriteString(head + "\n" + rule + "\n")
	for _, m := range mishaps() {
		b.WriteString("| " + m.what + " |")
		for _, c := range columns {
			times := slices.Sorted(slices.Values(c.times[m.what]))
			fmt.Fprintf(&b, " %.2f s, at most %.2f s |", times[len(times)/2].Seconds(), times[len(times)-1].Seconds())
		}
		b.WriteString("\n")
	}
	if o.idle > 0 {
		b.WriteString("| CPU while nothing happens |")
		for _, c := range columns {
			fmt.Fprintf(&b, " %.2f %% of a core |", 100*c.idle)
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
