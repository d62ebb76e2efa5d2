package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
)

const long = `svcproxy turns Services and EndpointSlices into iptables rules on a node, in
the place of kube-proxy: the same chains, flags and configuration file.

  svcproxy                        follow the cluster and serve it
  svcproxy --dry-run              print the rules for the cluster as it is now
  svcproxy --dry-run -f FILE      print the rules for objects in files; -f may be repeated
  svcproxy -f DIR                 serve from files, without an API server
  svcproxy --config FILE          follow the cluster as kube-proxy's configuration says
  svcproxy --cleanup              remove all its rules
  svcproxy diff                   compare the kernel's rules with those wanted
  svcproxy trace --to SERVICE     say what becomes of a packet, rule by rule, and why
  svcproxy status                 show its Services and how connections are spread`

// newCommand returns the command line. "-f -" reads from stdin.
func newCommand(stdin io.Reader) *cobra.Command {
	o := &options{stdin: stdin}
	cmd := &cobra.Command{
		Use:           "svcproxy",
		Short:         "A service proxy for Kubernetes nodes, in iptables mode",
		Long:          long,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown argument %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(); err != nil {
				return err
			}
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	o.addFlags(cmd.Flags())
	cmd.AddCommand(newDiffCommand(stdin))
	cmd.AddCommand(newTraceCommand(stdin))
	cmd.AddCommand(newStatusCommand(stdin))
	return cmd
}

// run does the one thing that the flags ask for.
func (o *options) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.settings.applyLogging(); err != nil {
		return err
	}
	setClientGates(o.settings.FeatureGates)
	o.remark(ctx)
	switch {
	case o.writeConfigTo != "":
		return o.writeConfiguration()
	case o.cleanup:
		return o.runCleanup(ctx)
	case o.dryRun:
		return o.runDryRun(ctx, stdout, stderr)
	case o.once:
		return o.runOnce(ctx)
	case o.initOnly:
		return o.runInit()
	}
	return o.runProxy(ctx)
}
