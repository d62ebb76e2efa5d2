package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
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

// xtJumps is a copy of the nat table. Each chain of a user begins with an entry
// whose target is ERROR, with the chain's name; a jump is the place in the table of
// the entry behind that.
type xtJumps struct {
	*xtSocket
	memory  []byte // mapped
	entries []byte
	chains  map[string]int // where the first rule of each is
}

func openXTJumps(f rules.Family) (jumpReader, error) {
	j := &xtJumps{chains: map[string]int{}}
	if !slices.Contains(legacyTables(f), string(rules.Nat)) {
		return j, nil // reading would make it
	}
	var err error
	if j.xtSocket, err = openXT(f); err != nil {
		return nil, err
	}
	defer j.xtSocket.close()
	var state tableState
	err = j.snapshot(&state, rules.Nat, func(s *xtSocket, t *tableState) (err error) {
		j.memory, j.entries, err = s.entries(&t.info)
		return err
	})
	if err == nil {
		if err = j.index(); err != nil {
			j.close()
		}
	}
	return j, err
}

func (j *xtJumps) close() {
	if j.memory != nil {
		_ = unix.Munmap(j.memory)
	}
	j.memory, j.entries = nil, nil
}

// index finds the chains.
func (j *xtJumps) index() error {
	for at := 0; at < len(j.entries); {
		e, err := j.entry(at)
		if err != nil {
			return err
		}
		if name := e.chain(); name != "" {
			j.chains[name] = at + len(e.bytes)
		}
		at += len(e.bytes)
	}
	return nil
}

func (j *xtJumps) read(chain string, f func(string, uint64)) error {
	at, ok := j.chains[chain]
	for ok && at < len(j.entries) {
		e, err := j.entry(at)
		if err != nil {
			return err
		}
		if e.chain() != "" {
			return nil
		}
		next := at + len(e.bytes)
		if to := e.jump(); to >= 0 && to != next { // a rule without a target leads on to the next one
			head := to - j.headSize - xtErrorTarget
			if head < 0 || to > len(j.entries) {
				return fmt.Errorf("an entry leads to %d of %d bytes", to, len(j.entries))
			}
			begin, err := j.entry(head)
			if err != nil {
				return err
			}
			f(begin.chain(), e.packets())
		}
		at = next
	}
	return nil
}

// xtEntry is one entry of a table.
type xtEntry struct {
	bytes  []byte
	target []byte // from its head on
	count  []byte // struct xt_counters
}

var errNoEntry = errors.New("is no entry")

func (j *xtJumps) entry(at int) (xtEntry, error) {
	rest := j.entries[at:]
	if len(rest) < j.headSize {
		return xtEntry{}, fmt.Errorf("byte %d: %w", at, errNoEntry)
	}
	target := int(binary.NativeEndian.Uint16(rest[j.nextOffset-2:]))
	next := int(binary.NativeEndian.Uint16(rest[j.nextOffset:]))
	if target < j.headSize || next < target+xtTargetHead || next > len(rest) {
		return xtEntry{}, fmt.Errorf("byte %d: %w", at, errNoEntry)
	}
	return xtEntry{bytes: rest[:next], target: rest[target:next], count: rest[j.headSize-xtCounters : j.headSize]}, nil
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

func (e *xtEntry) packets() uint64 { return binary.NativeEndian.Uint64(e.count) }
