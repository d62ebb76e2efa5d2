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

// disturbed looks whether others wrote to the tables, and has the next sync read
// those where it is so, as far as that is not too often.
func (p *Proxy) disturbed(ctx context.Context) bool {
	found := false
	for _, f := range p.families {
		seen, _ := f.look(ctx)
		if seen && f.pace.allows(time.Now()) {
			f.have = nil
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
			f.have = nil
		}
	}
}

// look asks whether somebody else wrote, and whether the answer is sure. What is to
// be read anyway is not asked about: after a failure it is the wait that counts.
func (f *familySync) look(ctx context.Context) (seen, sure bool) {
	if f.have == nil {
		return false, false
	}
	what, err := f.kernel.Interference(ctx)
	if err != nil {
		if !f.blind {
			klog.FromContext(ctx).Error(err, "The kernel does not tell whether others change the rules, which are compared once a sync period instead", "family", f.family)
		}
		f.blind = true
		return false, false
	}
	f.blind = false
	f.by = what.By
	return what.Seen, !what.Unsure
}

// pace spaces the reads that others ask for by writing. On many nodes somebody
// writes rules of his own with each pod: as long as nothing is found wrong, that
// costs an eighth of a core at most, and the first time after a quiet while it is
// looked at at once. What is wrong is set right each time, up to the point where
// somebody seems to insist.
type pace struct {
	earliest time.Time
	last     time.Time
	streak   int // how many times in a row something was wrong
}

const (
	fruitlessPauses = 7  // how many times as long as a read took nothing is read after it
	maxStreak       = 10 // more than what comes from one mishap
	streakEnd       = time.Minute
)

func (p *pace) allows(now time.Time) bool { return !now.Before(p.earliest) }

// done notes a read that ended now, and whether it found something wrong.
func (p *pace) done(now time.Time, took time.Duration, wrong bool) {
	if !wrong || now.Sub(p.last) > streakEnd {
		p.streak = 0
	}
	if wrong {
		p.streak++
	}
	p.last, p.earliest = now, now
	if !wrong || p.streak > maxStreak {
		p.earliest = now.Add(fruitlessPauses * took)
	}
}

// compare tells what is wrong with the rules that were read, by what we left
// there. Before the first sync, and after one that failed, that is not known.
func (f *familySync) compare(ctx context.Context, took time.Duration) {
	if f.known == nil {
		return
	}
	drift := rules.FindDrift(f.have, f.known)
	f.pace.done(time.Now(), took, len(drift) > 0)
	for _, d := range summarize(drift) {
		klog.FromContext(ctx).Info("Somebody else changed the kernel's rules, which are set right", append([]any{"family", f.family}, d.values(f.by)...)...)
		if f.drifted != nil {
			f.drifted(f.family, d.table, d.kind, d.count)
		}
	}
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

func summarize(drift []rules.Drift) []summary {
	var out []summary
	for _, d := range drift {
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
			s.names = append(s.names, chainOf(&d))
		}
	}
	return out
}

// chainOf is the chain, with the one that a jump leads to.
func chainOf(d *rules.Drift) string {
	if d.Kind == rules.JumpMissing || d.Kind == rules.JumpBehind {
		return d.Chain + " to " + d.Missing[0].Jump()
	}
	return d.Chain
}

// values are keys and values for the log.
func (s *summary) values(by []string) []any {
	names := strings.Join(s.names, ", ")
	if more := s.count - len(s.names); more > 0 && names != "" {
		names += fmt.Sprintf(" and %d more", more)
	}
	out := []any{"table", s.table, "kind", s.kind, "count", s.count, "chains", names, "rulesMissing", s.missing, "rulesExtra", s.extra}
	if len(by) > 0 {
		out = append(out, "by", strings.Join(by, ", "))
	}
	return out
}

// reportHeld logs each chain once that stays because of somebody else's rule.
func (f *familySync) reportHeld(ctx context.Context, want *rules.Ruleset) {
	held := rules.HeldStale(f.have, want)
	for _, h := range held {
		if !slices.Contains(f.held, h) {
			klog.FromContext(ctx).Info("A chain that is not needed any more stays, emptied, since a rule of somebody else's leads to it",
				"family", f.family, "table", h.Table, "chain", h.Chain, "from", h.From)
		}
	}
	f.held = held
}
