package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"svcproxy/pkg/status"
)

const statusLong = `status shows what svcproxy does on this node: a summary, then each Service with
its endpoints, the share of the connections that each is to get and has got, and
the last change. It asks the svcproxy that runs, at --metrics-bind-address; where
none does, it reads the kernel's rules and counters.

  svcproxy status                      the first 100 Services
  svcproxy status kube-system ns/web   those of a namespace, and one more
  svcproxy status --trouble            those that something is wrong with
  svcproxy status --watch ns/web       how connections are spread, every 2 seconds
  svcproxy status -o json              all, for programs: see docs/status.md`

// statusLimit is how many Services are shown to people who do not say.
const statusLimit = 100

// statusOptions are the flags of status.
type statusOptions struct {
	output string
	watch  time.Duration
	query  status.Query
	sort   string
}

func newStatusCommand(stdin io.Reader) *cobra.Command {
	s := &statusOptions{}
	cmd := inspector{
		use: "status [NAMESPACE[/NAME]...]", short: "Show the Services of this node and how their connections are spread", long: statusLong,
		args: cobra.ArbitraryArgs,
		run: func(cmd *cobra.Command, o *options, args []string) error {
			if err := s.complete(cmd, args); err != nil {
				return usageError{err}
			}
			return s.run(cmd.Context(), o, newScreen(cmd.OutOrStdout(), cmd.ErrOrStderr()))
		},
	}.command(stdin)
	fs := cmd.Flags()
	fs.StringVarP(&s.output, "output", "o", "text", "`text`, wide, json or yaml")
	fs.DurationVarP(&s.watch, "watch", "w", 0, "show the connections of each `interval` until interrupted")
	fs.Lookup("watch").NoOptDefVal = "2s"
	fs.StringVar(&s.sort, "sort", string(status.ByName), "by `name`, connections, endpoints or changed")
	fs.StringVar(&s.query.Search, "search", "", "only Services with this `text` in namespace/name")
	fs.BoolVar(&s.query.Trouble, "trouble", false, "only Services that something is wrong with: in quarantine, without endpoints, changed by others")
	fs.IntVar(&s.query.Limit, "limit", statusLimit, "how many Services to show; 0: all. With -o json and yaml: all unless given")
	fs.Lookup(metricsFlag).Hidden = false
	return cmd
}

// complete makes the query that the command line asks for.
func (s *statusOptions) complete(cmd *cobra.Command, args []string) error {
	if !slices.Contains([]string{"text", "wide", "json", "yaml"}, s.output) {
		return fmt.Errorf("--output: %q: must be text, wide, json or yaml", s.output)
	}
	q := &s.query
	q.Sort = status.Order(s.sort)
	if err := status.CheckOrder(q.Sort); err != nil {
		return fmt.Errorf("--sort: %w", err)
	}
	if cmd.Flags().Changed("watch") && s.watch < 100*time.Millisecond {
		return fmt.Errorf("--watch: %v: must be 100ms or more; it takes the interval as --watch=2s", s.watch)
	}
	if q.Limit < 0 {
		return fmt.Errorf("--limit: %d: must not be negative", q.Limit)
	}
	if !cmd.Flags().Changed("limit") && (s.output == "json" || s.output == "yaml") {
		q.Limit = 0
	}
	for _, arg := range args {
		if _, err := time.ParseDuration(arg); err == nil && s.watch > 0 {
			return fmt.Errorf("%q: the interval is given as --watch=%s", arg, arg)
		}
		n, err := status.ParseName(arg)
		if err != nil {
			return err
		}
		q.Names = append(q.Names, n)
	}
	q.Search = strings.ToLower(q.Search)
	q.Counters, q.Flows = true, s.output == "wide"
	return nil
}

// statusSource answers queries.
type statusSource interface {
	report(ctx context.Context, q *status.Query) (*status.Report, error)
}

func (s *statusOptions) run(ctx context.Context, o *options, out *screen) error {
	r, src, err := o.askStatus(ctx, &s.query, out.stderr)
	if err != nil {
		return err
	}
	if err := s.print(out, r, 0); err != nil {
		return err
	}
	if err := unknownServices(r); err != nil || s.watch == 0 {
		return err
	}
	return s.follow(ctx, src, out, r)
}

// follow prints what each interval brought, until it is interrupted.
func (s *statusOptions) follow(ctx context.Context, src statusSource, out *screen, before *status.Report) error {
	tick := time.NewTicker(s.watch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := src.report(ctx, &s.query)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			fmt.Fprintf(out.stderr, "svcproxy: %v; trying again\n", err)
			continue
		}
		out.renew()
		if err := s.print(out, now.Since(before), s.watch); err != nil {
			return err
		}
		before = now
	}
}

// unknownServices is the error of names that no Service has.
func unknownServices(r *status.Report) error {
	var words []string
	for _, u := range r.Selection.Unknown {
		text := "no Service " + u.Name
		if !strings.Contains(u.Name, "/") {
			text = "no Service in namespace " + u.Name
		}
		if len(u.Nearest) > 0 {
			text += " (there is " + strings.Join(u.Nearest, ", ") + ")"
		}
		words = append(words, text)
	}
	if len(words) == 0 {
		return nil
	}
	return fmt.Errorf("%s on this node; svcproxy status --search TEXT finds Services by a part of their name", strings.Join(words, ", "))
}
