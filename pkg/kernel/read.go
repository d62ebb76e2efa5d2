//go:build linux

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/coreos/go-iptables/iptables"

	"svcproxy/pkg/rules"
)

// Read returns what is there of ours: chains, and jumps into them. A chain that
// equals the one in known, which may be nil, is that very chain, so that a Read
// of what is known keeps next to no memory.
func (t *Tables) Read(ctx context.Context, known *rules.Ruleset) (*rules.Ruleset, error) {
	t.witness.reading()
	own, err := t.read(ctx, known)
	return own, permitted(err)
}

// Peek is Read for those who look once, and do not ask afterwards what others did.
// Without the right to read the tables the error is an ErrNotPermitted.
func (t *Tables) Peek(ctx context.Context) (*rules.Ruleset, error) {
	own, err := t.read(ctx, nil)
	return own, permitted(err)
}

func (t *Tables) read(ctx context.Context, known *rules.Ruleset) (*rules.Ruleset, error) {
	reader := rules.NewOwnReader(t.family, known)
	// All tables at once: iptables-nft-save asks the kernel for all whichever it
	// prints, and the legacy one makes a table that it is asked for.
	err := eachLine(ctx, reader.Line, t.tools.save)
	if exitStatus(err) == notUnderstood {
		return t.readEach(ctx, known)
	}
	if err != nil {
		return nil, err
	}
	return reader.Ruleset(), nil
}

// notUnderstood is the exit status of iptables-nft commands that meet a rule which
// nft made of what they have no words for.
const notUnderstood = 3

// exitStatus is that of the command that failed; 0 if it is another error.
func exitStatus(err error) int {
	var e *exitError
	var j *iptables.Error
	switch {
	case errors.As(err, &e):
		return e.status
	case errors.As(err, &j):
		return j.ExitStatus()
	}
	return 0
}

// readEach reads one table after the other, to have those that can be read.
func (t *Tables) readEach(ctx context.Context, known *rules.Ruleset) (*rules.Ruleset, error) {
	text, err := t.saveEach(ctx, rules.Tables())
	if err != nil {
		return nil, err
	}
	reader := rules.NewOwnReader(t.family, known)
	for line := range bytes.Lines(text) {
		if err := reader.Line(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return nil, fmt.Errorf("%s: %w", t.tools.save, err)
		}
	}
	return reader.Ruleset(), nil
}
