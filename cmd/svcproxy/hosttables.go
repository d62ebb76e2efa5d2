package main

import (
	"context"
	"errors"
	"fmt"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// hostTables are the tables of this host that can be used.
type hostTables struct {
	backend  kernel.Backend
	families []rules.Family
	tables   map[rules.Family]*kernel.Tables
	left     map[rules.Family]error // those left out, and why
}

// openTables opens the tables of the families asked for. IPv6 is left out where the
// kernel has no usable tables of it, unless it was asked for; where that cannot be told,
// as somebody holds the lock, it is an error. Who serves tries them all; that may make
// them, and who looks has no need of those that must be there.
func (o *options) openTables(ctx context.Context, serves bool) (*hostTables, error) {
	backend, err := kernel.Detect(ctx, kernel.Backend(o.backend), o.families)
	if err != nil {
		return nil, err
	}
	h := &hostTables{backend: backend, tables: map[rules.Family]*kernel.Tables{}, left: map[rules.Family]error{}}
	host := kernel.NewHost(backend)
	for _, f := range o.families {
		optional := f == rules.IPv6 && o.ipFamily == ""
		t, err := host.Tables(f)
		if err == nil && (serves || optional) {
			err = t.Probe(ctx)
		}
		switch {
		case err == nil:
			h.families, h.tables[f] = append(h.families, f), t
		case !optional || errors.Is(err, kernel.ErrUndecided):
			return nil, fmt.Errorf("%s: %w", f, err)
		default:
			h.left[f] = err
		}
	}
	return h, nil
}
