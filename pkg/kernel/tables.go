//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/coreos/go-iptables/iptables"

	"svcproxy/pkg/rules"
)

// Tables is the filter and nat tables of one family, on one backend.
type Tables struct {
	family rules.Family
	tools  tools
	run    runner
	jumps  jumper

	witness witness
}

// jumper is the part of go-iptables that edits built-in chains. A restore cannot
// do that: it cannot insert a rule only if it is missing.
type jumper interface {
	Exists(table, chain string, rulespec ...string) (bool, error)
	Insert(table, chain string, pos int, rulespec ...string) error
	Delete(table, chain string, rulespec ...string) error
}

// Host is where the tables of several families are: they share how it is found out
// whether others write.
type Host struct {
	backend Backend
	events  *ruleEvents // nft
	lock    *xtLock     // legacy
}

// NewHost returns a host whose tables are written by that backend.
func NewHost(b Backend) *Host {
	return &Host{backend: b, events: newRuleEvents(), lock: newXTLock()}
}

// Close frees what looking at the tables took. They stay as they are.
func (h *Host) Close() {
	h.events.close()
	h.lock.close()
}

// Tables returns the tables of a family. It fails if the backend's commands are
// not installed. The tables of a host are not for several goroutines.
func (h *Host) Tables(f rules.Family) (*Tables, error) {
	tools, err := findTools(context.Background(), execute, f, h.backend)
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
	t := &Tables{family: f, tools: tools, run: execute, jumps: jumps, witness: newBlobs(f, h.lock)}
	if h.backend == NFT {
		t.witness = &generations{family: f, events: h.events}
	}
	return t, nil
}

// Probe reports why the kernel has no usable tables of this family, if so. The error is
// an ErrUndecided where that may be otherwise a moment later: somebody holds the lock,
// or the command did not get to its end.
func (t *Tables) Probe(ctx context.Context) error {
	for _, name := range rules.Tables() {
		if b, legacy := t.witness.(*blobs); legacy && b.has(name) {
			continue // for a command to look at one of its chains takes as long as to read it all
		}
		_, err := output(ctx, t.run, t.tools.command, "-w", lockWait, "-t", string(name), "-S", builtinChain(name))
		var answer *exitError
		switch {
		case err == nil:
		case errors.As(err, &answer) && nftsOwn.MatchString(answer.stderr): // which shows that there is a table
		case !errors.As(err, &answer) || locked.MatchString(answer.stderr):
			return fmt.Errorf("%w: %w", ErrUndecided, err)
		default:
			return permitted(err)
		}
	}
	return nil
}

// nftsOwn matches what iptables-nft commands say of a chain with rules that were made
// by nft, and that they cannot show. Others can be written beside these.
var nftsOwn = regexp.MustCompile(`use 'nft' tool|Parsing nftables rule failed`)

// locked matches what the commands say when they have waited for the lock in vain.
var locked = regexp.MustCompile(`xtables lock`)

// builtinChain is a chain that the table has whenever it can be used.
func builtinChain(t rules.TableName) string {
	if t == rules.Nat {
		return "POSTROUTING"
	}
	return "INPUT"
}

// Apply carries out a plan: one transaction after the other, then the jumps. After
// an error the transactions before it are in the kernel; that of one which was not
// carried out is a *RestoreError, and Done says which.
func (t *Tables) Apply(ctx context.Context, plan *rules.Plan) error {
	return t.witness.writing(plan.Growth, func() (int, error) { return t.apply(ctx, plan) })
}

// apply also returns how many commits it made.
func (t *Tables) apply(ctx context.Context, plan *rules.Plan) (commits int, err error) {
	for i := range plan.Transactions {
		if err := t.restore(ctx, &plan.Transactions[i]); err != nil {
			var failed *RestoreError
			if errors.As(err, &failed) {
				failed.Done = i
			}
			return commits, err
		}
		commits++
	}
	for i := range plan.Remove {
		if err := t.remove(&plan.Remove[i]); err != nil {
			return commits, err
		}
		commits++
	}
	for i := range plan.Jumps {
		inserted, err := t.insert(&plan.Jumps[i])
		if err != nil {
			return commits, err
		}
		if inserted {
			commits++
		}
	}
	return commits, nil
}

// remove removes a jump: the first that is like it.
func (t *Tables) remove(j *rules.Jump) error {
	var err error
	for _, args := range j.Rule.Spellings(t.family) {
		if err = t.jumps.Delete(string(j.Table), j.Chain, args...); err == nil {
			return nil
		}
	}
	return fmt.Errorf("delete the jump from %s %s to %s: %w", j.Table, j.Chain, j.Rule.Target.Name, err)
}

// insert inserts a jump unless somebody was faster. A rule that iptables does not
// understand ends its search: there is none before that.
func (t *Tables) insert(j *rules.Jump) (bool, error) {
	args := j.Rule.Args(t.family)
	there, err := t.jumps.Exists(string(j.Table), j.Chain, args...)
	if (err == nil || exitStatus(err) == notUnderstood) && !there {
		err = t.jumps.Insert(string(j.Table), j.Chain, max(1, j.Position), args...)
	}
	if err != nil {
		return false, fmt.Errorf("insert the jump from %s %s to %s: %w", j.Table, j.Chain, j.Rule.Target.Name, err)
	}
	return !there, nil
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
