//go:build linux

package kernel

import (
	"fmt"

	"svcproxy/pkg/rules"
)

// JumpCounts tells how many packets the rules of the nat table's chains have sent on
// to other chains. It asks the kernel without a command's help, so that a few chains
// of a large table cost a few hundred microseconds on the nft backend; on the legacy
// one, which hands out whole tables, the table is read once, and kept outside of
// Go's memory until Close. It is not for several goroutines.
type JumpCounts struct {
	family rules.Family
	jumps  jumpReader
}

// jumpReader calls f for each rule of a chain that leads to another chain, in order.
type jumpReader interface {
	read(chain string, f func(to string, packets uint64)) error
	close()
}

// JumpCounts opens the counts of these tables. Unlike the rest of Tables it may be
// called at any time by anybody.
func (t *Tables) JumpCounts() (*JumpCounts, error) {
	open := openNFTJumps
	if _, legacy := t.witness.(*blobs); legacy {
		open = openXTJumps
	}
	jumps, err := open(t.family)
	if err != nil {
		return nil, fmt.Errorf("read counters of %s nat: %w", t.family, err)
	}
	return &JumpCounts{t.family, jumps}, nil
}

// Each calls f for each rule of a chain that jumps or goes to another chain, in
// order, with the packets that the rule has sent there since it was written. A chain
// that is not there has none.
func (c *JumpCounts) Each(chain string, f func(to string, packets uint64)) error {
	if err := c.jumps.read(chain, f); err != nil {
		return fmt.Errorf("read counters of %s nat %s: %w", c.family, chain, err)
	}
	return nil
}

// Close frees what was opened.
func (c *JumpCounts) Close() { c.jumps.close() }
