package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"svcproxy/pkg/rules"
)

// lookPeriod is how often the kernel is asked whether somebody else wrote.
const lookPeriod = 250 * time.Millisecond

// drift is what is known in one family of others that write to the kernel.
type drift struct {
	count func(rules.Family, rules.TableName, rules.DriftKind, int)
	post  func(f rules.Family, found []rules.Drift, by []string, now time.Time)

	known     *rules.Ruleset    // what was there before it was to be read again; nil: not known
	by        []string          // who wrote since, besides us
	blind     bool              // the kernel does not tell whether others write
	overtaken int               // searches given up in a row; see maxOvertaken
	held      []rules.Reference // that were logged
	pace      pace
}

// disturbed looks whether others wrote to the tables, and has the next sync read
// those where it is so, as far as that is not too often.
func (p *Proxy) disturbed(ctx context.Context) bool {
	found := false
	for _, f := range p.families {
		seen, _ := f.look(ctx)
		if seen && f.drift.pace.allows(time.Now()) {
			f.forget()
			found = true
		}
	}
	return found
}

// forgetUnsure has the next sync read the tables that others may have written to
// unnoticed.
func (p *Proxy) forgetUnsure(ctx context.Context) {
	for _, f := range p.families {
		if seen, sure := f.look(ctx); seen || !sure {
			f.forget()
		}
	}
}

// forget makes the next sync read the kernel instead of trusting what was written.
// What was there before the first sync was not ours to keep.
func (f *familySync) forget() {
	if f.have != nil && f.inForce != nil {
		f.drift.known = f.have
	}
	f.have = nil
}

// look asks whether somebody else wrote, and whether the answer is sure. After a sync
// that failed it asks as well: what was written meanwhile, or since, is not to wait
// until it is time for the next try.
func (f *familySync) look(ctx context.Context) (seen, sure bool) {
	what, err := f.kernel.Interference(ctx)
	if err != nil {
		if !f.drift.blind {
			klog.FromContext(ctx).Error(err, "The kernel does not tell whether others change the rules, which are compared once a sync period instead", "family", f.family)
		}
		f.drift.blind = true
		return false, false
	}
	f.drift.blind = false
	f.drift.by = what.By
	return what.Seen, !what.Unsure
}

// maxOvertaken is how many searches in a row are given up because of others: where they
// never cease to write, a refusal is taken at its word.
const maxOvertaken = 3

// overtaken reports whether others have written since the tables were read, so that a
// refusal may say nothing of our rules.
func (f *familySync) overtaken(ctx context.Context) bool {
	seen, _ := f.look(ctx)
	if !seen || f.drift.overtaken == maxOvertaken {
		return false
	}
	f.drift.overtaken++
	return true
}

// read reads the kernel and tells what is wrong there by what was known. Before the
// first sync, and after one that failed in the middle, nothing is known.
func (f *familySync) read(ctx context.Context) error {
	began := time.Now()
	have, err := f.kernel.Read(ctx, f.drift.known)
	if err != nil {
		return err
	}
	if f.drift.known != nil {
		found := rules.FindDrift(have, f.drift.known)
		f.drift.pace.done(time.Now(), time.Since(began), len(found) > 0)
		f.drift.say(ctx, f.family, found)
		f.drift.post(f.family, found, f.drift.by, time.Now())
	}
	f.have, f.drift.known, f.drift.by = have, nil, nil
	return nil
}

// say logs and counts drift, a line for each kind in each table.
func (d *drift) say(ctx context.Context, family rules.Family, found []rules.Drift) {
	for _, s := range summarize(found) {
		values := append([]any{"family", family}, s.values()...)
		if len(d.by) > 0 {
			values = append(values, "by", strings.Join(d.by, ", "))
		}
		klog.FromContext(ctx).Info("Somebody else changed the kernel's rules, which are set right", values...)
		d.count(family, s.table, s.kind, s.count)
	}
}

// sayHeld logs each chain once that stays because of somebody else's rule.
func (d *drift) sayHeld(ctx context.Context, have, want *rules.Ruleset) {
	held := rules.HeldStale(have, want)
	for _, h := range held {
		if !slices.Contains(d.held, h) {
			klog.FromContext(ctx).Info("A chain that is not needed any more stays, emptied, since a rule of somebody else's leads to it",
				"family", want.Family, "table", h.Table, "chain", h.Chain, "from", h.From)
		}
	}
	d.held = held
}

// summary is all drift of one kind in one table.
type summary struct {
	table          rules.TableName
	kind           rules.DriftKind
	count          int
	names          []string // the first few
	missing, extra int      // rules
}

// maxNames bounds how many chains a line of the log names.
const maxNames = 5

func summarize(found []rules.Drift) []summary {
	var out []summary
	for _, d := range found {
		i := slices.IndexFunc(out, func(s summary) bool { return s.table == d.Table && s.kind == d.Kind })
		if i < 0 {
			i = len(out)
			out = append(out, summary{table: d.Table, kind: d.Kind})
		}
		s := &out[i]
		s.count++
		s.missing += len(d.Missing)
		s.extra += len(d.Extra)
		if len(s.names) < maxNames && d.Chain != "" {
			s.names = append(s.names, driftName(&d))
		}
	}
	return out
}

// driftName is the chain, with the one that a jump leads to.
func driftName(d *rules.Drift) string {
	if d.Kind == rules.JumpMissing || d.Kind == rules.JumpBehind {
		return d.Chain + " to " + d.Missing[0].Jump()
	}
	return d.Chain
}

// values are keys and values for the log.
func (s *summary) values() []any {
	names := strings.Join(s.names, ", ")
	if more := s.count - len(s.names); more > 0 && names != "" {
		names += fmt.Sprintf(" and %d more", more)
	}
	return []any{"table", s.table, "kind", s.kind, "count", s.count, "chains", names, "rulesMissing", s.missing, "rulesExtra", s.extra}
}
