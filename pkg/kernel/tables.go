package kernel

import (
	"context"
	"errors"
	"fmt"

	"github.com/coreos/go-iptables/iptables"

	"svcproxy/pkg/rules"
)

// Tables is the filter and nat tables of one family, on one backend.
type Tables struct {
	family rules.Family
	tools  tools
	run    runner
	jumps  jumper
}

// jumper is the part of go-iptables that edits built-in chains. A restore cannot
// do that: it cannot insert a rule only if it is missing.
type jumper interface {
	InsertUnique(table, chain string, pos int, rulespec ...string) error
	Delete(table, chain string, rulespec ...string) error
}

// New returns the tables of a family. It fails if the backend's commands are not
// installed.
func New(f rules.Family, b Backend) (*Tables, error) {
	tools, err := findTools(context.Background(), execute, f, b)
	if err != nil {
		return nil, err
	}
	protocol := iptables.ProtocolIPv4
	if f == rules.IPv6 {
		protocol = iptables.ProtocolIPv6
	}
	jumps, err := iptables.New(iptables.IPFamily(protocol), iptables.Path(tools.command), iptables.Timeout(5))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tools.command, err)
	}
	return &Tables{family: f, tools: tools, run: execute, jumps: jumps}, nil
}

// Probe reports why the kernel has no usable tables of this family, if so.
func (t *Tables) Probe(ctx context.Context) error {
	for _, name := range rules.Tables() {
		if _, err := output(ctx, t.run, t.tools.command, "-w", lockWait, "-t", string(name), "-S", builtinChain(name)); err != nil {
			return err
		}
	}
	return nil
}

// builtinChain is a chain that the table has whenever it can be used.
func builtinChain(t rules.TableName) string {
	if t == rules.Nat {
		return "POSTROUTING"
	}
	return "INPUT"
}

// Read returns what is there of ours: chains, and jumps into them.
func (t *Tables) Read(ctx context.Context) (*rules.Ruleset, error) {
	all, err := t.readAll(ctx)
	if err != nil {
		return nil, err
	}
	return rules.Own(t.family, all), nil
}

// readAll returns every table that exists, with everybody's chains. One command
// prints them all: iptables-nft-save reads the whole ruleset whichever table it is
// asked for, and the legacy one creates a table that it is asked for.
func (t *Tables) readAll(ctx context.Context) ([]rules.Table, error) {
	text, err := output(ctx, t.run, t.tools.save)
	if err != nil {
		return nil, err
	}
	tables, err := rules.ParseSave(text, t.family)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.tools.save, err)
	}
	return tables, nil
}

// Apply carries out a plan, one transaction after the other, then inserts its
// jumps. After an error the transactions before it are in the kernel; that of one
// which was not carried out is a *RestoreError, and Done says which.
func (t *Tables) Apply(ctx context.Context, plan *rules.Plan) error {
	for i := range plan.Transactions {
		if err := t.restore(ctx, &plan.Transactions[i]); err != nil {
			var failed *RestoreError
			if errors.As(err, &failed) {
				failed.Done = i
			}
			return err
		}
	}
	for _, j := range plan.Jumps {
		if err := t.jumps.InsertUnique(string(j.Table), j.Chain, 1, j.Rule.Args(t.family)...); err != nil {
			return fmt.Errorf("insert the jump from %s %s to %s: %w", j.Table, j.Chain, j.Rule.Target.Name, err)
		}
	}
	return nil
}

func (t *Tables) restore(ctx context.Context, tx *rules.Transaction) error {
	return t.restoreInput(ctx, tx.Table, rules.RenderTransaction(t.family, tx))
}

// restoreInput restores text that is about one table.
func (t *Tables) restoreInput(ctx context.Context, table rules.TableName, input []byte) error {
	_, stderr, exit, err := t.run(ctx, input, t.tools.restore, "-w", lockWait, "--noflush", "--counters")
	if err != nil {
		return fmt.Errorf("restore of table %s: %w", table, err)
	}
	if exit != 0 {
		return newRestoreError(t.family, table, exit, input, stderr)
	}
	return nil
}
