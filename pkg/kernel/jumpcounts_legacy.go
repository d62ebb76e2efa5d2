//go:build linux

package kernel

import (
	"fmt"

	"svcproxy/pkg/rules"
)

func openXTJumps(f rules.Family) (jumpReader, error) { return readXTTable(f, rules.Nat) }

func (t *xtTable) read(chain string, f func(string, uint64)) error {
	at, ok := t.chains[chain]
	for ok && at < len(t.entries) {
		e, err := t.entry(at)
		if err != nil {
			return err
		}
		if e.chain() != "" {
			return nil
		}
		next := at + len(e.bytes)
		if e.leadsAway(next) {
			to := e.jump()
			head := to - t.headSize - xtErrorTarget
			if head < 0 || to > len(t.entries) {
				return fmt.Errorf("an entry leads to %d of %d bytes", to, len(t.entries))
			}
			begin, err := t.entry(head)
			if err != nil {
				return err
			}
			f(begin.chain(), e.packets())
		}
		at = next
	}
	return nil
}
