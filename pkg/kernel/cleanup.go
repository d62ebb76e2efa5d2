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
// it, and nothing else; what it shares with kubelet stays. Running it twice does no harm. If somebody else's rule
// leads into one of our chains, that chain stays, empty, and the error names the
// rule.
func Cleanup(ctx context.Context, families []rules.Family) error {
	var errs []error
	for _, b := range []Backend{NFT, Legacy} {
		for _, f := range families {
			if b == Legacy && !hasLegacyTables(f) {
				continue
			}
			t, err := New(f, b)
			if err == nil {
				err = t.Probe(ctx)
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
	return errors.Join(errs...)
}

func (t *Tables) cleanup(ctx context.Context) error {
	all, err := t.readAll(ctx)
	if err != nil {
		return err
	}
	own := rules.Own(t.family, all)
	var errs []error
	for _, j := range own.Jumps {
		if rules.Shared(j.Table, j.Rule.Jump()) {
			continue
		}
		if err := t.jumps.Delete(string(j.Table), j.Chain, j.Rule.Args(t.family)...); err != nil {
			errs = append(errs, fmt.Errorf("delete the jump from %s %s: %w", j.Table, j.Chain, err))
		}
	}
	for i := range all {
		errs = append(errs, t.removeChains(ctx, &all[i])...)
	}
	return errors.Join(errs...)
}

// removeChains removes our chains of one table in one transaction. Chains that
// foreign rules lead to are only emptied, since their removal would fail the rest.
func (t *Tables) removeChains(ctx context.Context, table *rules.Table) []error {
	tx := rules.Transaction{Table: table.Name}
	var errs []error
	for _, c := range table.Chains {
		if !rules.Owned(table.Name, c.Name) || rules.Shared(table.Name, c.Name) {
			continue
		}
		if from := foreignReferrer(table, c.Name); from != "" {
			tx.Write = append(tx.Write, &rules.Chain{Name: c.Name})
			errs = append(errs, fmt.Errorf("table %s: chain %s stays, emptied: a rule of chain %s leads to it", table.Name, c.Name, from))
			continue
		}
		tx.Delete = append(tx.Delete, c.Name)
	}
	if len(tx.Write)+len(tx.Delete) > 0 {
		if err := t.restore(ctx, &tx); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// foreignReferrer names a chain of somebody else that leads to the given one.
// Built-in chains do not count: their jumps were deleted before.
func foreignReferrer(table *rules.Table, chain string) string {
	for _, c := range table.Chains {
		if c.Policy != "" || rules.Owned(table.Name, c.Name) {
			continue
		}
		if slices.ContainsFunc(c.Rules, func(r rules.Rule) bool { return r.Target.Name == chain }) {
			return c.Name
		}
	}
	return ""
}
