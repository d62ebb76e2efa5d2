package main

import (
	"context"
	"errors"
	"fmt"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// ownSource is where the rules of one family are, to be compared with others.
type ownSource struct {
	family rules.Family
	config rules.Config
	read   func(context.Context) (*foundRules, error) // nil: there are no tables, and need not be
}

// foundRules is what was read there.
type foundRules struct {
	*rules.Ruleset
	from     string         // iptables-nft, or the name of a file
	leftover *leftoverRules // nil: none
}

// leftoverRules are a service proxy's in the backend that is not used.
type leftoverRules struct {
	from          string
	chains, jumps int
}

// kernelRules are those of this node. A family that the kernel has no tables of is
// left out, unless it was asked for.
func (o *options) kernelRules() []ownSource {
	var out []ownSource
	for _, f := range o.families {
		k := kernelReader{family: f, want: kernel.Backend(o.backend), optional: o.ipFamily == "" && f == rules.IPv6}
		out = append(out, ownSource{f, o.configHere(f), k.read})
	}
	return out
}

// kernelReader reads the rules of one family from either backend.
type kernelReader struct {
	family   rules.Family
	want     kernel.Backend
	optional bool // no tables are no error
}

// read returns the rules of the backend that is used, nil if there are no tables and
// need not be. Most nodes use one backend, so that both are read in little more time
// than one.
func (k *kernelReader) read(ctx context.Context) (*foundRules, error) {
	found := map[kernel.Backend]*rules.Ruleset{}
	var errs []error
	for _, b := range []kernel.Backend{kernel.NFT, kernel.Legacy} {
		own, err := k.readBackend(ctx, b)
		switch {
		case err == nil:
			found[b] = own
		case k.want == kernel.Auto || k.want == b:
			errs = append(errs, err)
		}
	}
	b, err := k.pick(ctx, found)
	switch {
	case err != nil:
		return nil, err
	case found[b] == nil && k.optional:
		return nil, nil
	case found[b] == nil:
		return nil, fmt.Errorf("read the rules of %s: %w", k.family, explainKernel(errors.Join(errs...), otherRules))
	}
	out := &foundRules{Ruleset: found[b], from: backendName(k.family, b)}
	for other, own := range found {
		if other != b && own.LeadsToServices() {
			out.leftover = newLeftover(backendName(k.family, other), own)
		}
	}
	return out, nil
}

// pick returns the backend asked for, else the only one that has rules of a service
// proxy, else the one that svcproxy would use.
func (k *kernelReader) pick(ctx context.Context, found map[kernel.Backend]*rules.Ruleset) (kernel.Backend, error) {
	if k.want != kernel.Auto {
		return k.want, nil
	}
	var used []kernel.Backend
	for b, own := range found {
		if own.LeadsToServices() {
			used = append(used, b)
		}
	}
	if len(used) == 1 {
		return used[0], nil
	}
	b, err := kernel.Detect(ctx, kernel.Auto, []rules.Family{k.family})
	if err != nil && k.optional {
		return "", nil
	}
	return b, err
}

func (k *kernelReader) readBackend(ctx context.Context, b kernel.Backend) (*rules.Ruleset, error) {
	host := kernel.NewHost(b)
	defer host.Close()
	tables, err := host.Tables(k.family)
	if err != nil {
		return nil, err
	}
	return tables.Peek(ctx)
}

// backendName is the command of a family and backend.
func backendName(f rules.Family, b kernel.Backend) string {
	if f == rules.IPv6 {
		return "ip6tables-" + string(b)
	}
	return "iptables-" + string(b)
}

func newLeftover(from string, own *rules.Ruleset) *leftoverRules {
	l := &leftoverRules{from: from, jumps: len(own.Jumps)}
	for _, t := range own.Tables {
		l.chains += len(t.Chains)
	}
	return l
}
