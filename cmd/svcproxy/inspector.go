package main

import (
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// inspector is a command that looks at the rules of a node and changes nothing.
type inspector struct {
	use, short, long string
	args             cobra.PositionalArgs
	run              func(cmd *cobra.Command, o *options, args []string) error
}

// shownFlags are those that an inspector's help has. It takes all that decide what
// the rules are, with the values that svcproxy runs with.
var shownFlags = []string{"filename", "config", "kubeconfig", "hostname-override", "ip-family", "iptables-backend", "cluster-cidr"}

// nodeNameVariable has the name of the Node in svcproxy's pod (manifests/svcproxy). A
// command that somebody runs there knows nothing of svcproxy's flags, and the name of
// the host may be another one.
const nodeNameVariable = "NODE_NAME"

// command returns the inspector as a command line, which the caller adds its own
// flags to. "-f -" reads from stdin.
func (i inspector) command(stdin io.Reader) *cobra.Command {
	o := &options{stdin: stdin}
	cmd := &cobra.Command{
		Use: i.use, Short: i.short, Long: i.long,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := i.args(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.hostnameOverride == "" {
				o.hostnameOverride = os.Getenv(nodeNameVariable)
			}
			if err := o.complete(); err != nil {
				return err
			}
			if err := o.settings.applyLogging(); err != nil {
				return err
			}
			setClientGates(o.settings.FeatureGates)
			return i.run(cmd, o, args)
		},
	}
	o.addRuleFlags(cmd.Flags())
	hideAllBut(cmd, shownFlags)
	return cmd
}

func hideAllBut(cmd *cobra.Command, shown []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = !slices.Contains(shown, f.Name) })
}
