//go:build !linux

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"svcproxy/pkg/rules"
)

// errElsewhere is what all that asks the kernel gets where there is no netfilter. What
// is made of objects and saved rules alone has no need of it: svcproxy --dry-run -f,
// diff and trace with -f and --rules.
var errElsewhere = fmt.Errorf("iptables is there on Linux alone: give objects by -f, and rules by --rules: %w", errors.ErrUnsupported)

// Host has no tables.
type Host struct{}

// NewHost returns a host without tables.
func NewHost(Backend) *Host { return &Host{} }

// Close does nothing.
func (*Host) Close() {}

// Tables fails.
func (*Host) Tables(rules.Family) (*Tables, error) { return nil, errElsewhere }

// Tables cannot be had here.
type Tables struct{}

func (*Tables) Probe(context.Context) error { return errElsewhere }

func (*Tables) Peek(context.Context) (*rules.Ruleset, error) { return nil, errElsewhere }

func (*Tables) Read(context.Context, *rules.Ruleset) (*rules.Ruleset, error) {
	return nil, errElsewhere
}

func (*Tables) Apply(context.Context, *rules.Plan) error { return errElsewhere }

func (*Tables) Interference(context.Context) (Interference, error) {
	return Interference{}, errElsewhere
}

func (*Tables) Missing(context.Context) (rules.Features, error) { return 0, errElsewhere }

func (*Tables) Packets(context.Context, rules.TableName, string, rules.Rule) (uint64, error) {
	return 0, errElsewhere
}

func (*Tables) JumpCounts() (*JumpCounts, error) { return nil, errElsewhere }

// JumpCounts cannot be had here.
type JumpCounts struct{}

func (*JumpCounts) Each(string, func(string, uint64)) error { return errElsewhere }

func (*JumpCounts) Close() {}

// Detect fails.
func Detect(context.Context, Backend, []rules.Family) (Backend, error) { return "", errElsewhere }

// SaveAll fails.
func SaveAll(context.Context, Backend, rules.Family) ([]Saved, error) { return nil, errElsewhere }

// Cleanup fails: there is nothing to clean up, but who asks takes this for a node.
func Cleanup(context.Context, []rules.Family) error { return errElsewhere }

// OtherTables fails.
func OtherTables(rules.Family) ([]string, error) { return nil, errElsewhere }

// RemoveNFTablesMode fails.
func RemoveNFTablesMode(rules.Family) (bool, error) { return false, errElsewhere }

// HasIPVSMode finds none.
func HasIPVSMode() bool { return false }

// Flows cannot be had here.
type Flows struct{}

// NewFlows returns flows that cannot be read.
func NewFlows(rules.Family) *Flows { return &Flows{} }

func (*Flows) Each(rules.Protocol, func(rules.Flow)) error { return errElsewhere }

func (*Flows) DeleteFlows(context.Context, rules.Protocol, func(rules.Flow) bool) (int, error) {
	return 0, errElsewhere
}

func (*Flows) Connections(rules.Protocol, netip.AddrPort, netip.AddrPort) ([]Connection, error) {
	return nil, errElsewhere
}

// Wire cannot be had here.
type Wire struct{}

// NewWire fails.
func NewWire(rules.Family) (*Wire, error) { return nil, errElsewhere }

func (*Wire) Family() rules.Family { return 0 }

func (*Wire) DeviceTo(netip.Addr) string { return "" }

func (*Wire) Follow(WirePacket) (Way, error) { return Way{}, errElsewhere }
