package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"svcproxy/hack/internal/sandbox"
	"svcproxy/hack/internal/wait"
)

// state is the rules of a node: of each chain, as iptables-save prints them, without
// counters. Chains come in no order.
type state map[string]string

// savedState reads the tables filter and nat of both families.
func savedState(ctx context.Context, ns sandbox.Netns, tools string) (state, error) {
	out := state{}
	for _, command := range []string{"iptables-save", "ip6tables-save"} {
		for _, table := range []string{"filter", "nat"} {
			var text []byte
			err := ns.Do(func() (err error) {
				text, err = exec.CommandContext(ctx, filepath.Join(tools, command), "-t", table).Output()
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", command, err)
			}
			out.add(command+" "+table+" ", string(text))
		}
	}
	return out, nil
}

func (s state) add(prefix, saved string) {
	for line := range strings.Lines(saved) {
		if rest, ok := strings.CutPrefix(line, ":"); ok {
			chain, _, _ := strings.Cut(rest, " ")
			s[prefix+chain] += ""
		}
		if rest, ok := strings.CutPrefix(line, "-A "); ok {
			chain, _, _ := strings.Cut(rest, " ")
			s[prefix+chain] += line
		}
	}
}

// differs names a few chains that are not as in another state; empty: none.
func (s state) differs(from state) string {
	var out []string
	for chain, rules := range s {
		if other, there := from[chain]; !there {
			out = append(out, chain+" is too much")
		} else if other != rules {
			out = append(out, fmt.Sprintf("%s has\n%sinstead of\n%s", chain, rules, other))
		}
	}
	for chain := range from {
		if _, there := s[chain]; !there {
			out = append(out, chain+" is missing")
		}
	}
	slices.Sort(out)
	return strings.Join(out[:min(len(out), 5)], "; ")
}

// freshAddress is where svcproxy reaches the API server from an empty node.
var freshAddress = netip.MustParseAddr("10.250.9.5")

// fresh is what svcproxy writes on an empty node, for the objects of now.
func (s *scene) fresh(ctx context.Context) (state, error) {
	s.freshNodes++
	ns, err := sandbox.NewNetns(fmt.Sprint("fresh-", s.freshNodes))
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Remove() }()
	link := fmt.Sprint("fresh", s.freshNodes)
	if err := s.around.LinkAPI(ns, link, freshAddress); err != nil {
		return nil, err
	}
	defer func() { _ = sandbox.IP("link del " + link) }()
	kubeconfig, err := s.control.KubeconfigAt(freshAddress, s.user)
	if err != nil {
		return nil, err
	}
	path, args, err := s.command(s.node.kind, kubeconfig)
	if err != nil {
		return nil, err
	}
	err = ns.Do(func() error {
		cmd := exec.CommandContext(ctx, path, append(args, "--once")...)
		cmd.Env = append(s.node.env(), "XTABLES_LOCKFILE="+filepath.Join(s.node.dir, "fresh.lock"))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("svcproxy --once: %w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return savedState(ctx, ns, s.node.tools.Real)
}

// equalsFresh waits until the node has exactly what a fresh load makes of the objects,
// which must not change meanwhile, and returns how long that took.
func (s *scene) equalsFresh(ctx context.Context, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	wanted := make(chan state, 1)
	failed := make(chan error, 1)
	go func() {
		want, err := s.fresh(ctx)
		failed <- err
		wanted <- want
	}()
	var since time.Time // when the node first was as it is now
	var have, want state
	for {
		at := time.Now()
		now, err := savedState(ctx, s.node.Netns, s.node.tools.Real)
		if err != nil {
			return 0, err
		}
		if have == nil || now.differs(have) != "" {
			have, since = now, at
		}
		select {
		case err := <-failed:
			if err != nil {
				return 0, fmt.Errorf("load afresh: %w", err)
			}
			want = <-wanted
		default:
		}
		if want != nil && have.differs(want) == "" {
			return since.Sub(began), nil
		}
		if want != nil && time.Since(began) > limit {
			return 0, fmt.Errorf("the kernel is not as after a fresh load: %s", have.differs(want))
		}
		if err := wait.Sleep(ctx, 100*time.Millisecond); err != nil {
			return 0, err
		}
	}
}
