package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

const diffLong = `diff compares the rules that this node's kernel has with those wanted for the
cluster as it is now, and says whether packets to Services fare as they should.
It changes nothing. Lines with - are in the kernel alone, lines with + are
missing there; rules of others are no difference. Give it the flags that
svcproxy runs with, --config above all.

  svcproxy diff                      the whole node
  svcproxy diff NAMESPACE/NAME       one Service
  svcproxy diff --fates              what becomes of packets alone: for a node that
                                     kube-proxy runs, whose rules are others
  svcproxy diff -f FILE --rules SAVE off the node: objects from files, and what
                                     iptables-save or ip6tables-save printed

The exit status is 0 if nothing differs, 1 if something does, 2 if that could
not be found out.`

// diffOptions are the flags of diff alone.
type diffOptions struct {
	saved  []string
	output string
	fates  bool
	brief  bool
}

// newDiffCommand returns "svcproxy diff".
func newDiffCommand(stdin io.Reader) *cobra.Command {
	d := &diffOptions{}
	cmd := inspector{
		use: "diff [NAMESPACE/NAME...]", short: "Compare the kernel's rules with those wanted", long: diffLong,
		args: cobra.ArbitraryArgs, run: d.run,
	}.command(stdin)
	cmd.Flags().StringArrayVar(&d.saved, "rules", nil, "compare what iptables-save or ip6tables-save printed into a `file` instead of the kernel's rules; - is standard input; may be repeated")
	cmd.Flags().StringVarP(&d.output, "output", "o", "text", "`text` or json")
	cmd.Flags().BoolVar(&d.fates, "fates", false, "compare what becomes of packets to Services, not the rules")
	cmd.Flags().BoolVar(&d.brief, "brief", false, "name the chains that differ, without their rules")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return diffStatus(run(cmd, args)) }
	return cmd
}

// diffStatus gives failures the status 2, since 1 is an answer.
func diffStatus(err error) error {
	var answer statusError
	var usage usageError
	if err == nil || errors.As(err, &answer) || errors.As(err, &usage) {
		return err
	}
	return statusError{2, err}
}

func (d *diffOptions) run(cmd *cobra.Command, o *options, args []string) error {
	if !slices.Contains([]string{"text", "json"}, d.output) {
		return usagef("--output: %q: must be text or json", d.output)
	}
	if d.readsStdinTwice(o) {
		return usagef("-f - and --rules -: only one of them can read standard input")
	}
	report, err := d.compare(cmd.Context(), o, args, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if err := report.print(cmd.OutOrStdout(), d.output); err != nil {
		return fmt.Errorf("print the differences: %w", err)
	}
	if report.Result != resultSame {
		return statusError{status: 1}
	}
	return nil
}

func (d *diffOptions) readsStdinTwice(o *options) bool {
	n := 0
	for _, name := range slices.Concat(o.files, d.saved) {
		if name == "-" {
			n++
		}
	}
	return n > 1
}

// compare reads objects and rules, at the same time as either may take a second, and
// compares them, family by family. What is wrong with the objects goes to stderr: the
// rest is wanted all the same.
func (d *diffOptions) compare(ctx context.Context, o *options, args []string, stderr io.Writer) (*diffReport, error) {
	sources, err := d.sources(o)
	if err != nil {
		return nil, err
	}
	done := progress(stderr, "Reading the rules and the objects")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	objects := o.snapshotMeanwhile(ctx)
	found, err := readSources(ctx, sources)
	var snap *rules.Snapshot
	var problems []watch.Problem
	if err == nil {
		snap, problems, err = objects()
	}
	done()
	if err != nil {
		return nil, err
	}
	sayProblems(stderr, problems)
	m := &reportMaker{opts: d, snap: snap}
	if len(d.saved) == 0 {
		m.quarantined = askQuarantine(ctx, o.settings.MetricsBindAddress)
	}
	for i, have := range found {
		if have == nil {
			continue
		}
		done := progress(stderr, "Comparing the rules of "+sources[i].family.String())
		m.family(sources[i], have)
		done()
	}
	return m.report(args)
}

// readSources reads the rules of each source; nil: it has no tables, and need not.
func readSources(ctx context.Context, sources []ownSource) ([]*foundRules, error) {
	var out []*foundRules
	for _, src := range sources {
		found, err := src.read(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, found)
	}
	return out, nil
}

// sources are the rules to compare: of files, or the kernel's.
func (d *diffOptions) sources(o *options) ([]ownSource, error) {
	if len(d.saved) > 0 {
		return o.savedRules(d.saved)
	}
	return o.kernelRules(), nil
}
