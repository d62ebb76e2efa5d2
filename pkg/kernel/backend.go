//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"svcproxy/pkg/rules"
)

// tools are the commands of one family and backend.
type tools struct{ command, restore, save string }

func commandName(f rules.Family) string {
	if f == rules.IPv6 {
		return "ip6tables"
	}
	return "iptables"
}

// findTools looks for the commands of a backend: by its own names, or by the
// plain ones where a distribution has only one backend and calls it iptables.
func findTools(ctx context.Context, run runner, f rules.Family, b Backend) (tools, error) {
	base := commandName(f)
	own := base + "-" + string(b)
	if path, err := exec.LookPath(own); err == nil {
		return tools{path, path + "-restore", path + "-save"}, nil
	}
	path, err := exec.LookPath(base)
	if err != nil {
		return tools{}, fmt.Errorf("neither %s nor %s is installed (package iptables)", own, base)
	}
	version, err := output(ctx, run, path, "--version")
	if err != nil {
		return tools{}, err
	}
	if backendOf(string(version)) != b {
		return tools{}, fmt.Errorf("%s is not installed (package iptables), and %s is another backend: %s", own, base, strings.TrimSpace(string(version)))
	}
	return tools{path, path + "-restore", path + "-save"}, nil
}

// anyTools fails if the commands of a backend are not installed for any family.
func anyTools(ctx context.Context, run runner, families []rules.Family, b Backend) error {
	var errs []error
	for _, f := range families {
		_, err := findTools(ctx, run, f, b)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// backendOf reads the backend from what iptables --version prints. Versions
// before 1.8 name none: they are legacy.
func backendOf(version string) Backend {
	if strings.Contains(version, "(nf_tables)") {
		return NFT
	}
	return Legacy
}

// Detect returns the backend to use: want, or for Auto the one that the host
// already uses. The other's rules still apply, so if both are in use it warns
// and names the tables.
func Detect(ctx context.Context, want Backend, families []rules.Family) (Backend, error) {
	if want != Auto {
		return want, nil
	}
	uses := map[Backend]use{}
	var installed []Backend
	var missing []error
	for _, b := range []Backend{NFT, Legacy} {
		if err := anyTools(ctx, execute, families, b); err != nil {
			missing = append(missing, err)
			continue
		}
		installed = append(installed, b)
		uses[b] = inspect(b, families)
	}
	if len(installed) == 0 {
		return "", fmt.Errorf("no iptables backend can be used: %w", errors.Join(missing...))
	}
	if nft, legacy := uses[NFT], uses[Legacy]; len(nft.tables) > 0 && len(legacy.tables) > 0 {
		klog.FromContext(ctx).Info("Both iptables backends hold rules on this node, and the kernel applies both",
			"nft", nft.tables, "legacy", legacy.tables)
	}
	return pick(installed, uses, defaultBackend(ctx, families)), nil
}

// pick chooses among the installed backends: by the chains of kubelet and
// kube-proxy, then by the number of rules, then the default of the host.
func pick(installed []Backend, uses map[Backend]use, byDefault Backend) Backend {
	return slices.MaxFunc(installed, func(a, b Backend) int {
		ua, ub := uses[a], uses[b]
		if d := ua.hints - ub.hints; d != 0 {
			return d
		}
		if d := ua.rules - ub.rules; d != 0 {
			return d
		}
		return rank(a, byDefault) - rank(b, byDefault)
	})
}

func rank(b, byDefault Backend) int {
	if b == byDefault {
		return 1
	}
	return 0
}

// defaultBackend is the one that the plain command is; nft if there is none.
func defaultBackend(ctx context.Context, families []rules.Family) Backend {
	for _, f := range families {
		if version, err := output(ctx, execute, commandName(f), "--version"); err == nil {
			return backendOf(string(version))
		}
	}
	return NFT
}
