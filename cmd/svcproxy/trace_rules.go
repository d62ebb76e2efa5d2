package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// The values of --rules that are no file.
const (
	rulesOfKernel  = "kernel"
	rulesOfObjects = "objects"
)

// ruleSource is where the rules that a packet is sent through come from.
type ruleSource struct {
	kind    string // rulesOfKernel, rulesOfObjects, or a file
	options *options
	cat     *catalogue // may be nil, if kind is not rulesOfObjects
	stderr  io.Writer

	file   *string        // what the file held; nil: not read yet
	unread []kernel.Saved // backends of the kernel that could not be read
	others []string       // tables that nft shows and iptables does not
}

// newRuleSource chooses: what --rules says, else the objects of -f, else the kernel.
func newRuleSource(asked string, o *options, cat *catalogue, stderr io.Writer) (*ruleSource, error) {
	kind := asked
	switch {
	case asked == "" && len(o.files) > 0:
		kind = rulesOfObjects
	case asked == "":
		kind = rulesOfKernel
	case asked == rulesOfObjects && cat == nil:
		return nil, usagef("--rules objects: give the objects, by -f or --kubeconfig")
	case asked == "-" && slices.Contains(o.files, "-"):
		return nil, usagef("--rules - and -f - exclude each other: standard input is one of them")
	}
	return &ruleSource{kind: kind, options: o, cat: cat, stderr: stderr}, nil
}

// live: what is traced is this node, as it is now.
func (r *ruleSource) live() bool { return r.kind == rulesOfKernel }

// layers returns the rules of a family, and says for people where they are from.
func (r *ruleSource) layers(ctx context.Context, f rules.Family) (layers []rules.Layer, from []string, err error) {
	switch r.kind {
	case rulesOfKernel:
		return r.fromKernel(ctx, f)
	case rulesOfObjects:
		return r.fromObjects(ctx, f)
	}
	return r.fromFile(f)
}

func (r *ruleSource) fromKernel(ctx context.Context, f rules.Family) (layers []rules.Layer, from []string, err error) {
	done := progress(r.stderr, "Reading the kernel's rules")
	defer done()
	saved, err := kernel.SaveAll(ctx, kernel.Backend(r.options.backend), f)
	if err != nil {
		return nil, nil, explainKernel(err, otherRules)
	}
	if r.others, err = kernel.OtherTables(f); err != nil {
		return nil, nil, err
	}
	for _, s := range saved {
		if s.Err != nil {
			r.unread = append(r.unread, s)
			continue
		}
		save, err := rules.ReadSave(string(s.Text), f)
		if err != nil {
			return nil, nil, fmt.Errorf("%s rules of the %s backend: %w", f, s.Backend, err)
		}
		n := save.Rules()
		if n == 0 && len(save.Unreadable) == 0 {
			continue
		}
		layers = append(layers, rules.Layer{Name: string(s.Backend), Save: save})
		from = append(from, fmt.Sprintf("the kernel's, %s backend, %d rules", s.Backend, n))
	}
	if len(layers) == 0 {
		from = []string{"the kernel's, which has no iptables rules of " + f.String()}
	}
	return layers, from, nil
}

// otherRules is what else can be done where the kernel's rules cannot be had, by
// commands that take other rules.
const otherRules = ", or give rules from elsewhere: --rules FILE (what iptables-save printed), or -f FILE (objects)"

// explainKernel says what to do where the kernel's rules cannot be had; otherwise is
// what else there is, or empty.
func explainKernel(err error, otherwise string) error {
	switch {
	case errors.Is(err, kernel.ErrNotPermitted):
		return fmt.Errorf("%w; it takes CAP_NET_ADMIN, and CAP_NET_RAW too with the legacy backend: run it as root, or in svcproxy's pod on the node%s", err, otherwise)
	case errors.Is(err, kernel.ErrNotInstalled):
		return fmt.Errorf("%w; install it%s", err, otherwise)
	}
	return err
}

// fromObjects are the rules that svcproxy would write.
func (r *ruleSource) fromObjects(ctx context.Context, f rules.Family) ([]rules.Layer, []string, error) {
	snap, _, err := r.cat.store.snapshot(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	save, err := builtRules(snap, r.options.config(f))
	return []rules.Layer{{Save: save}}, []string{"those that svcproxy writes for the objects in " + r.cat.from}, err
}

// builtRules are the rules for a snapshot as the kernel would have them.
func builtRules(snap *rules.Snapshot, cfg rules.Config) (*rules.Save, error) {
	return rules.ReadSave(string(dump(snap, cfg)), cfg.Family)
}

// errNoRules is a file that holds none of the family; it may hold the other's.
var errNoRules = errors.New("holds no rules")

// fromFile are rules that were saved before.
func (r *ruleSource) fromFile(f rules.Family) ([]rules.Layer, []string, error) {
	if r.file == nil {
		text, err := r.options.readFile(r.kind)
		if err != nil {
			return nil, nil, fmt.Errorf("--rules: %w", err)
		}
		saved := string(text)
		r.file = &saved
	}
	save, err := rules.ReadSave(string(r.options.byFamily([]byte(*r.file))[f]), f)
	if err != nil {
		return nil, nil, fmt.Errorf("--rules %s: %w; it must be what iptables-save prints", r.kind, err)
	}
	if save.Rules() == 0 {
		return nil, nil, fmt.Errorf("--rules %s: %w of %s; they are what %s prints", r.kind, errNoRules, f, saveCommand(f))
	}
	return []rules.Layer{{Save: save}}, []string{fmt.Sprintf("saved in %s, %d rules", r.kind, save.Rules())}, nil
}

func saveCommand(f rules.Family) string {
	if f == rules.IPv6 {
		return "ip6tables-save"
	}
	return "iptables-save"
}

// nodeAddresses are those of the node that the rules are of: what is said, what the
// objects say and, if it is this node, what it has.
func (r *ruleSource) nodeAddresses(asked []net.IP, node *rules.Node) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, ip := range asked {
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a.Unmap())
		}
	}
	if node != nil {
		out = append(append(out, node.Primary...), node.Addresses...)
	}
	if !r.live() {
		return out, nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the node's addresses: %w", err)
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out, nil
}
