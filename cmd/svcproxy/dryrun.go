package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// runDryRun prints the rules for the state of now: all of them, as they would be
// written into an empty kernel. What is wrong with the objects goes to stderr.
func (o *options) runDryRun(ctx context.Context, stdout, stderr io.Writer) error {
	snap, problems, err := o.snapshot(ctx)
	if err != nil {
		return err
	}
	families := o.families
	if o.ipFamily == "" {
		families = present(snap)
	}
	for _, f := range families {
		if _, err := stdout.Write(dump(snap, o.config(f))); err != nil {
			return fmt.Errorf("print the rules: %w", err)
		}
	}
	sayProblems(stderr, problems)
	return problemsError(problems)
}

// sayProblems names what is wrong with the objects; all else is as they say.
func sayProblems(w io.Writer, problems []watch.Problem) {
	for _, p := range problems {
		fmt.Fprintln(w, p.Error())
	}
}

// problemsError is the error of the problems that are more than a remark.
func problemsError(problems []watch.Problem) error {
	bad := 0
	for _, p := range problems {
		if !p.Skipped {
			bad++
		}
	}
	switch bad {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("1 problem, see above; all the rest is served")
	}
	return fmt.Errorf("%d problems, see above; all the rest is served", bad)
}

// dump is the text for one family, under a heading.
func dump(snap *rules.Snapshot, cfg rules.Config) []byte {
	tool := "iptables-restore"
	if cfg.Family == rules.IPv6 {
		tool = "ip6tables-restore"
	}
	node := strings.Trim(strconv.Quote(snap.Node.Name), `"`) // whatever the name holds, the comment is one line
	text := fmt.Appendf(nil, "# %s rules of node %s, for %s --noflush\n", cfg.Family, node, tool)
	plan := rules.NewPlan(&rules.Ruleset{Family: cfg.Family}, rules.Build(snap, cfg), 0)
	return append(text, rules.RenderPlan(plan)...)
}

// present lists the families that some Service has a cluster IP of; IPv4 if there is none.
func present(snap *rules.Snapshot) []rules.Family {
	has := map[rules.Family]bool{}
	for _, svc := range snap.Services {
		for _, ip := range svc.ClusterIPs {
			has[rules.FamilyOf(ip)] = true
		}
	}
	if len(has) == 0 {
		return []rules.Family{rules.IPv4}
	}
	var out []rules.Family
	for _, f := range rules.Families() {
		if has[f] {
			out = append(out, f)
		}
	}
	return out
}
