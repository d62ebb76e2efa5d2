//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// Of linux/netfilter/x_tables.h: struct xt_entry_target is the size of the target,
// its name and its revision; what the target keeps for itself comes behind it.
const (
	xtTargetHead  = 32
	xtTargetName  = 2
	xtNameLength  = 29
	xtErrorTarget = 64 // struct xt_error_target, aligned: the name of the chain that begins behind it
)

// xtTable is a copy of a legacy table. Each chain of a user begins with an entry
// whose target is ERROR, with the chain's name; a jump is the place in the table of
// the entry behind that.
type xtTable struct {
	*xtSocket
	memory  []byte // mapped
	entries []byte
	chains  map[string]int // where the first rule of each of a user is
	uses    int            // rules, and once more each that leads to another chain
}

// readXTTable reads a table; one that is not there is empty. close frees it.
func readXTTable(f rules.Family, name rules.TableName) (*xtTable, error) {
	t := &xtTable{chains: map[string]int{}}
	if !slices.Contains(legacyTables(f), string(name)) {
		return t, nil // reading would make it
	}
	var err error
	if t.xtSocket, err = openXT(f); err != nil {
		return nil, err
	}
	defer t.xtSocket.close()
	var state tableState
	err = t.snapshot(&state, name, func(s *xtSocket, is *tableState) (err error) {
		t.memory, t.entries, err = s.entries(&is.info)
		return err
	})
	if err == nil {
		if err = t.index(bits.OnesCount32(state.info.hooks)); err != nil {
			t.close()
		}
	}
	return t, err
}

func (t *xtTable) close() {
	if t.memory != nil {
		_ = unix.Munmap(t.memory)
	}
	t.memory, t.entries = nil, nil
}

// index finds the chains of a table with so many built-in ones, and counts the rules.
func (t *xtTable) index(builtIn int) error {
	entries := 0
	for at := 0; at < len(t.entries); entries++ {
		e, err := t.entry(at)
		if err != nil {
			return err
		}
		at += len(e.bytes)
		if name := e.chain(); name != "" && at < len(t.entries) {
			t.chains[name] = at
		}
		if e.leadsAway(at) {
			t.uses++
		}
	}
	t.uses += entries - builtIn - entriesOfChain*len(t.chains) - 1 // the policies, and the end
	return nil
}

// xtEntry is one entry of a table.
type xtEntry struct {
	bytes  []byte
	target []byte // from its head on
	count  []byte // struct xt_counters
}

var errNoEntry = errors.New("is no entry")

func (t *xtTable) entry(at int) (xtEntry, error) {
	rest := t.entries[at:]
	if len(rest) < t.headSize {
		return xtEntry{}, fmt.Errorf("byte %d: %w", at, errNoEntry)
	}
	target := int(binary.NativeEndian.Uint16(rest[t.nextOffset-2:]))
	next := int(binary.NativeEndian.Uint16(rest[t.nextOffset:]))
	if target < t.headSize || next < target+xtTargetHead || next > len(rest) {
		return xtEntry{}, fmt.Errorf("byte %d: %w", at, errNoEntry)
	}
	return xtEntry{bytes: rest[:next], target: rest[target:next], count: rest[t.headSize-xtCounters : t.headSize]}, nil
}

func (e *xtEntry) targetName() []byte {
	name := e.target[xtTargetName : xtTargetName+xtNameLength]
	if i := slices.Index(name, 0); i >= 0 {
		name = name[:i]
	}
	return name
}

// chain is the name of the chain that begins behind the entry; empty: none does. At
// the end of a table stands one that is called ERROR, too.
func (e *xtEntry) chain() string {
	if string(e.targetName()) != "ERROR" {
		return ""
	}
	return unix.ByteSliceToString(e.target[xtTargetHead:])
}

// jump is the place that the entry leads to; -1: it ends in a target or verdict.
func (e *xtEntry) jump() int {
	if len(e.targetName()) > 0 || len(e.target) < xtTargetHead+4 {
		return -1
	}
	return max(-1, int(int32(binary.NativeEndian.Uint32(e.target[xtTargetHead:]))))
}

// leadsAway reports whether the entry leads to a chain. A rule without a target leads
// on to the next one.
func (e *xtEntry) leadsAway(next int) bool {
	to := e.jump()
	return to >= 0 && to != next
}

func (e *xtEntry) packets() uint64 { return binary.NativeEndian.Uint64(e.count) }
