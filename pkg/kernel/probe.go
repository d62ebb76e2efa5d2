//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"

	"svcproxy/pkg/rules"
)

// Missing returns what of the features that rules use the kernel lacks. It really
// restores a rule for each into a chain that nothing leads to, since a test run of
// the command does not ask the kernel, and removes the chain at once; nothing of
// that chain stays, but after a kill in between it may, until the next sync. If
// nothing is missing that takes one restore a table.
func (t *Tables) Missing(ctx context.Context) (missing rules.Features, err error) {
	err = t.witness.writing(nil, func() (int, error) {
		p := prober{Tables: t}
		missing, err = p.missing(ctx)
		return p.commits, err
	})
	return missing, err
}

// prober restores rules and removes them.
type prober struct {
	*Tables
	commits int
}

func (t *prober) missing(ctx context.Context) (rules.Features, error) {
	var missing rules.Features
	for _, table := range rules.Tables() {
		probes := rules.Probes(t.family, table)
		all := make([]rules.Rule, len(probes))
		for i := range probes {
			all[i] = probes[i].Rule
		}
		taken, err := t.takes(ctx, table, all)
		if err != nil {
			return 0, err
		}
		if taken {
			continue
		}
		lacks, err := t.lacks(ctx, table, probes)
		if err != nil {
			return 0, err
		}
		missing |= lacks
	}
	return missing, nil
}

// lacks tries one probe after the other.
func (t *prober) lacks(ctx context.Context, table rules.TableName, probes []rules.Probe) (rules.Features, error) {
	if taken, err := t.takes(ctx, table, nil); err != nil {
		return 0, err
	} else if !taken {
		return 0, fmt.Errorf("table %s refuses an empty chain: no feature can be tried", table)
	}
	var missing rules.Features
	for _, p := range probes {
		if missing.Has(p.Feature) {
			continue
		}
		taken, err := t.takes(ctx, table, []rules.Rule{p.Rule})
		if err != nil {
			return 0, err
		}
		if !taken {
			missing |= p.Feature
		}
	}
	return missing, nil
}

// takes reports whether the kernel takes the rules. The second of the two
// transactions in the input removes what the first one wrote; if that is refused
// it leaves nothing behind, and the command stops there.
func (t *prober) takes(ctx context.Context, table rules.TableName, probe []rules.Rule) (bool, error) {
	write := rules.Transaction{Table: table, Write: []*rules.Chain{{Name: rules.ProbeChain, Rules: probe}}}
	remove := rules.Transaction{Table: table, Delete: []string{rules.ProbeChain}}
	input := append(rules.RenderTransaction(t.family, &write), rules.RenderTransaction(t.family, &remove)...)
	err := t.restoreInput(ctx, table, input)
	var refused *RestoreError
	if errors.As(err, &refused) && refused.Refused() {
		return false, nil
	}
	if err == nil {
		t.commits += 2
	}
	return err == nil, err
}
