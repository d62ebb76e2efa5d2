//go:build linux

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"

	"svcproxy/pkg/rules"
)

// Save returns all tables of the family, with counters. Those that only nft can show
// are named in a comment. Without the right to read them the error is an
// ErrNotPermitted.
func (t *Tables) Save(ctx context.Context) ([]byte, error) {
	text, err := output(ctx, t.run, t.tools.save, "-c")
	if exitStatus(err) == notUnderstood {
		text, err = t.saveEach(ctx, allTables, "-c")
	}
	return text, permitted(err)
}

// allTables are those of iptables.
var allTables = []rules.TableName{"raw", "mangle", rules.Nat, rules.Filter, "security"}

// saveEach saves one table after the other, to have those that can be read. The others
// are named in the comment that iptables-nft-save has for them.
func (t *Tables) saveEach(ctx context.Context, tables []rules.TableName, flags ...string) ([]byte, error) {
	var all bytes.Buffer
	for _, name := range tables {
		text, err := output(ctx, t.run, t.tools.save, append(flags, "-t", string(name))...)
		switch {
		case exitStatus(err) == notUnderstood:
			fmt.Fprintf(&all, "# Table `%s' is incompatible, use 'nft' tool.\n", name)
		case err != nil:
			return nil, err
		}
		all.Write(text)
	}
	return all.Bytes(), nil
}

// denied matches what the commands say where rights are missing.
var denied = regexp.MustCompile(`you must be root|Permission denied|Operation not permitted`)

func permitted(err error) error {
	var e *exitError
	if errors.As(err, &e) && denied.MatchString(e.stderr) {
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return err
}

// SaveAll saves the tables of each installed backend, or of the one that is wanted:
// the kernel applies those of both. Each is read once. A backend that is not installed,
// where the other is, is left out. It is an error if none can be read.
func SaveAll(ctx context.Context, want Backend, f rules.Family) ([]Saved, error) {
	backends := []Backend{NFT, Legacy}
	if want != Auto {
		backends = []Backend{want}
	}
	var out []Saved
	var missing, failed []error
	for _, b := range backends {
		tools, err := findTools(ctx, execute, f, b)
		if err != nil {
			missing = append(missing, err)
			continue
		}
		t := Tables{family: f, tools: tools, run: execute}
		text, err := t.Save(ctx)
		if err != nil {
			failed = append(failed, err)
		}
		out = append(out, Saved{b, text, err})
	}
	switch {
	case len(out) == 0:
		return nil, fmt.Errorf("%w: %w", ErrNotInstalled, errors.Join(missing...))
	case len(out) == len(failed):
		return nil, errors.Join(failed...)
	}
	return out, nil
}
