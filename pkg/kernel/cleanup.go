//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/klog/v2"

	"svcproxy/pkg/rules"
)

// Cleanup removes everything of a service proxy, from whichever backend holds
// it, the tables of kube-proxy's nftables mode, and nothing else; what it shares with
// kubelet stays. Running it twice does no harm. If somebody else's rule leads into one
// of our chains, that chain stays, empty, and the error names the rule.
func Cleanup(ctx context.Context, families []rules.Family) error {
	var errs []error
	for _, b := range []Backend{NFT, Legacy} {
		host := NewHost(b)
		defer host.Close()
		for _, f := range families {
			if b == Legacy && len(legacyTables(f)) == 0 {
				continue
			}
			t, err := host.Tables(f)
			if err == nil {
				err = t.Probe(ctx)
			}
			if errors.Is(err, ErrUndecided) || errors.Is(err, ErrNotPermitted) {
				errs = append(errs, fmt.Errorf("clean up %s (%s): %w", f, b, err))
				continue
			}
			if err != nil {
				klog.FromContext(ctx).V(1).Info("Nothing to clean up", "family", f, "backend", b, "reason", err.Error())
				continue
			}
			if err := t.cleanup(ctx); err != nil {
				errs = append(errs, fmt.Errorf("clean up %s (%s): %w", f, b, err))
			}
		}
	}
	for _, f := range families {
		if _, err := RemoveNFTablesMode(f); err != nil {
			errs = append(errs, fmt.Errorf("clean up %s: %w", f, err))
		}
	}
	return errors.Join(errs...)
}

func (t *Tables) cleanup(ctx context.Context) error {
	own, err := t.Read(ctx, nil)
	if err != nil {
		return err
	}
	var errs []error
	for i := range own.Jumps {
		if j := &own.Jumps[i]; !rules.Shared(j.Table, j.Rule.Jump()) {
			errs = append(errs, t.remove(j))
		}
	}
	for i := range own.Tables {
		errs = append(errs, t.removeChains(ctx, &own.Tables[i], own.Held)...)
	}
	return errors.Join(errs...)
}

// removeChains removes our chains of one table in one transaction. Chains that
// foreign rules lead to are only emptied, since their removal would fail the rest.
func (t *Tables) removeChains(ctx context.Context, table *rules.Table, held []rules.Reference) []error {
	tx := rules.Transaction{Table: table.Name}
	var errs []error
	for _, c := range table.Chains {
		if rules.Shared(table.Name, c.Name) {
			continue
		}
		i := slices.IndexFunc(held, func(r rules.Reference) bool { return r.Table == table.Name && r.Chain == c.Name })
		if i >= 0 {
			tx.Write = append(tx.Write, &rules.Chain{Name: c.Name})
			errs = append(errs, fmt.Errorf("table %s: chain %s stays, emptied: a rule of chain %s leads to it", table.Name, c.Name, held[i].From))
			continue
		}
		tx.Delete = append(tx.Delete, c.Name)
	}
	if len(tx.Write)+len(tx.Delete) > 0 {
		errs = append(errs, t.restore(ctx, &tx))
	}
	return errs
}
