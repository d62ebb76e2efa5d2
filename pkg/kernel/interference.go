//go:build linux

package kernel

import (
	"context"

	"svcproxy/pkg/rules"
)

// witness finds out whether others write to the tables of one family.
type witness interface {
	// reading is called before the tables are read: what others did until now will
	// be known.
	reading()
	// writing runs a write of ours, which returns how many commits it made, and makes
	// the tables grow by so much unless it fails; nil: that is not known.
	writing(growth map[rules.TableName]rules.Growth, write func() (commits int, err error)) error
	interference() (Interference, error)
}

// Interference looks whether others wrote to the tables, without reading them.
// It costs so little that it can be asked several times a second. After an error
// nothing is known.
func (t *Tables) Interference(context.Context) (Interference, error) {
	return t.witness.interference()
}
