package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"svcproxy/hack/internal/wait"
)

// ruleFaults are those that others do to the rules.
func ruleFaults() []*fault {
	return []*fault{
		{name: "firewall-reloaded", gone: true, make: firewallReloaded,
			how: "iptables-restore of empty tables mangle, filter and nat, for both families: all rules and chains are gone, five times within 3 seconds"},
		{name: "nat-flushed", gone: true, make: natFlushed,
			how: "iptables -t nat -F, five times within 3 seconds: all chains are empty"},
		{name: "chain-deleted", gone: true, make: chainDeleted,
			how: "what leads to KUBE-SERVICES in nat is deleted, and KUBE-SERVICES is"},
		{name: "jump-removed", gone: true, make: jumpRemoved,
			how: "iptables -t nat -D PREROUTING of what leads to KUBE-SERVICES"},
	}
}

// fiveTimes does something five times, with random pauses.
func fiveTimes(ctx context.Context, s *scene, do func() error) error {
	for i := range 5 {
		if i > 0 {
			if err := wait.Sleep(ctx, 300*time.Millisecond+s.upTo(500*time.Millisecond)); err != nil {
				return err
			}
		}
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

func firewallReloaded(ctx context.Context, s *scene) error {
	const empty = "*mangle\nCOMMIT\n*filter\nCOMMIT\n*nat\nCOMMIT\n"
	return fiveTimes(ctx, s, func() error {
		for _, command := range []string{"iptables-restore", "ip6tables-restore"} {
			if _, err := s.node.run(ctx, empty, command, "-w", "30"); err != nil {
				return err
			}
		}
		return nil
	})
}

func natFlushed(ctx context.Context, s *scene) error {
	return fiveTimes(ctx, s, func() error {
		_, err := s.node.run(ctx, "", "iptables", "-w", "30", "-t", "nat", "-F")
		return err
	})
}

func chainDeleted(ctx context.Context, s *scene) error {
	jumps, err := s.jumps(ctx, "")
	if err != nil {
		return err
	}
	return s.edit(ctx, jumps+"-F KUBE-SERVICES\n-X KUBE-SERVICES\n")
}

func jumpRemoved(ctx context.Context, s *scene) error {
	jumps, err := s.jumps(ctx, "PREROUTING")
	if err != nil {
		return err
	}
	return s.edit(ctx, jumps)
}

// jumps are commands that delete what leads to KUBE-SERVICES in nat, from a chain or
// from all.
func (s *scene) jumps(ctx context.Context, chain string) (string, error) {
	saved, err := s.node.run(ctx, "", "iptables-save", "-t", "nat")
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for line := range strings.Lines(saved) {
		if rest, ok := strings.CutPrefix(line, "-A "); ok && strings.HasPrefix(rest, chain) && strings.HasSuffix(line, " -j KUBE-SERVICES\n") {
			out.WriteString("-D " + rest)
		}
	}
	if out.Len() == 0 {
		return "", fmt.Errorf("nothing leads to KUBE-SERVICES: %s", saved)
	}
	return out.String(), nil
}

// edit runs commands on the table nat.
func (s *scene) edit(ctx context.Context, commands string) error {
	_, err := s.node.run(ctx, "*nat\n"+commands+"COMMIT\n", "iptables-restore", "-w", "30", "--noflush")
	return err
}
