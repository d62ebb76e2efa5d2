//go:build linux

package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"os"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// blobs is the witness of the legacy backend, whose tables have no version. The
// kernel hands out a table as one blob (linux/netfilter_ipv4/ip_tables.h,
// IPT_SO_GET_ENTRIES), and its size and number of rules for little more than
// nothing (IPT_SO_GET_INFO). Each look takes the latter, which a flush or a rule
// more or less changes. The blobs are read now and then, and soon after somebody
// ran iptables; they show the rest, such as a rule that was moved. Who wrote is
// not known.
//
// The blob is not read with each write of ours, since that takes a fifth as long
// as the write itself. What others write between the last look before ours and the
// next blob, without a change of size, passes for ours; so after a write of ours
// all is unsure until the next Read.
type blobs struct {
	family rules.Family
	lock   *xtLock
	runs   uint64 // of iptables, as lock counts them, when the blobs were last read
	seed   maphash.Seed
	known  blobState
	summed bool          // known has the sums
	looked time.Time     // when the blobs were last read
	cost   time.Duration // how long that took
	seen   bool
	unsure bool
	err    error // of the look that known is from
}

// blobState is what there is of each of rules.Tables.
type blobState [2]tableState

// grown reports whether the tables have grown by so much, those that were there before.
func grown(before, after blobState, growth map[rules.TableName]rules.Growth) bool {
	for i, name := range rules.Tables() {
		was, is := before[i].info.numEntries, after[i].info.numEntries
		if was > 0 && int(is)-int(was) != growth[name].Rules+entriesOfChain*growth[name].Chains {
			return false
		}
	}
	return true
}

// entriesOfChain is how many entries a chain has besides its rules: one that names it,
// and one at its end that returns.
const entriesOfChain = 2

// tableState is one table; the zero value is one that is not there.
type tableState struct {
	info tableInfo
	sum  uint64 // of the entries without their counters
}

// How long the blobs are left alone after they were read: so long at least, and so many
// times as long as it took. While there is no sign of a change that bounds it to 1/400
// of a core; where somebody runs iptables again and again they are read sooner.
const (
	idlePeriod, idlePauses = 1500 * time.Millisecond, 400
	busyPeriod, busyPauses = time.Second, 10
)

func newBlobs(f rules.Family, lock *xtLock) *blobs {
	return &blobs{family: f, lock: lock, seed: maphash.MakeSeed()}
}

func (b *blobs) reading() {
	b.known, b.err = b.read()
	b.summed = true
	b.seen, b.unsure = false, false
}

// writing also compares by how much the tables grow with how much they should: others
// who flush a table at that moment are often those whom a write of ours waits for, as
// they hold the lock.
func (b *blobs) writing(growth map[rules.TableName]rules.Growth, write func() (int, error)) error {
	before, err := b.infos()
	if err != nil || before != b.known {
		b.seen = true
	}
	_, err = write()
	b.known, b.err = b.infos()
	if err == nil && growth != nil && !grown(before, b.known, growth) {
		b.seen = true
	}
	b.summed, b.unsure = false, true
	b.lock.forget()
	return err
}

func (b *blobs) interference() (Interference, error) {
	if b.seen {
		return Interference{Seen: true}, nil // until it is read, whatever comes
	}
	now, err := b.infos()
	if err == nil && b.due() {
		now, err = b.read()
	}
	if err = cmp.Or(err, b.err); err != nil {
		return Interference{}, err
	}
	b.seen = now != b.known
	return Interference{Seen: b.seen, Unsure: b.unsure}, nil
}

// due reports whether it is time to read the blobs.
func (b *blobs) due() bool {
	pause := max(idlePeriod, idlePauses*b.cost)
	if b.lock.runs() != b.runs {
		pause = max(busyPeriod, busyPauses*b.cost)
	}
	return time.Since(b.looked) > pause
}

// infos is the state as far as it can be had without reading the blobs, which
// are taken for unchanged.
func (b *blobs) infos() (blobState, error) {
	now, err := b.each(func(*xtSocket, *tableState) error { return nil })
	for i := range now {
		now[i].sum = b.known[i].sum
	}
	return now, err
}

// has reports whether a table is there and may be read.
func (b *blobs) has(name rules.TableName) bool {
	now, err := b.infos()
	i := slices.Index(rules.Tables(), name)
	return err == nil && i >= 0 && now[i].info.numEntries > 0
}

// read is the whole state. The first one after a write of ours says what the
// blobs are now.
func (b *blobs) read() (blobState, error) {
	began := time.Now()
	b.runs = b.lock.runs()
	now, err := b.each(func(s *xtSocket, t *tableState) (err error) {
		t.sum, err = s.sum(&t.info, b.seed)
		return err
	})
	b.looked = time.Now()
	b.cost = b.looked.Sub(began)
	if !b.summed {
		b.summed = true
		for i := range now {
			b.known[i].sum = now[i].sum
		}
	}
	return now, err
}

// each reads the size of each table that is there, and calls f for the rest. A
// table is made by asking for it, so only those are asked for that the kernel
// lists; without any the backend is not in use.
func (b *blobs) each(f func(*xtSocket, *tableState) error) (state blobState, err error) {
	there := legacyTables(b.family)
	if len(there) == 0 {
		return state, nil
	}
	s, err := openXT(b.family)
	if err != nil {
		return state, fmt.Errorf("look at the legacy tables: %w", err)
	}
	defer s.close()
	for i, name := range rules.Tables() {
		if !slices.Contains(there, string(name)) {
			continue
		}
		if err := s.snapshot(&state[i], name, f); err != nil {
			return state, fmt.Errorf("look at the legacy table %s: %w", name, err)
		}
	}
	return state, nil
}

// legacyTables lists the tables of a family that somebody has used. Most of the
// legacy commands make a table by looking at it.
func legacyTables(f rules.Family) []string {
	path := "/proc/thread-self/net/ip_tables_names"
	if f == rules.IPv6 {
		path = "/proc/thread-self/net/ip6_tables_names"
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // the kernel has no legacy tables
	}
	return strings.Fields(string(text))
}

// Of linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h, alike.
const (
	xtGetInfo    = 64
	xtGetEntries = 65
	xtHooks      = 5
	xtCounters   = 16 // at the end of the head of an entry
)

// tableInfo is struct ipt_getinfo.
type tableInfo struct {
	name       [32]byte
	hooks      uint32
	entry      [xtHooks]uint32
	underflow  [xtHooks]uint32
	numEntries uint32
	size       uint32
}

// getEntries is the head of struct ipt_get_entries: the entries follow.
type getEntries struct {
	name [32]byte
	size uint32
	_    uint32
}

// xtSocket is a socket by which the legacy tables of a family are read.
type xtSocket struct {
	fd, level  int
	headSize   int // of struct ipt_entry
	nextOffset int // of its field next_offset
}

func openXT(f rules.Family) (*xtSocket, error) {
	if bits.UintSize != 64 {
		return nil, errors.ErrUnsupported // the structures have another layout there
	}
	domain, s := unix.AF_INET, &xtSocket{level: unix.IPPROTO_IP, headSize: 112, nextOffset: 90}
	if f == rules.IPv6 {
		domain, s = unix.AF_INET6, &xtSocket{level: unix.IPPROTO_IPV6, headSize: 168, nextOffset: 142}
	}
	var err error
	s.fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	return s, err
}

func (s *xtSocket) close() { _ = unix.Close(s.fd) }

// snapshotTries is how often a table is read that changes its size meanwhile.
const snapshotTries = 5

// snapshot reads one table's size, then calls f.
func (s *xtSocket) snapshot(t *tableState, name rules.TableName, f func(*xtSocket, *tableState) error) (err error) {
	for range snapshotTries {
		*t = tableState{}
		copy(t.info.name[:], name)
		if err = s.get(xtGetInfo, unsafe.Pointer(&t.info), unsafe.Sizeof(t.info)); err != nil {
			return err
		}
		if err = f(s, t); !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	return err
}

// sum hashes the entries of a table without their counters. What matches and
// targets keep for themselves, the kernel leaves out since 4.11.
func (s *xtSocket) sum(info *tableInfo, seed maphash.Seed) (uint64, error) {
	memory, entries, err := s.entries(info)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Munmap(memory) }()
	if err := s.clearCounters(entries); err != nil {
		return 0, err
	}
	return maphash.Bytes(seed, entries), nil
}

// entries reads the entries of a table into mapped memory, which the caller unmaps:
// Go would keep as much for long. Without an error entries is a part of memory.
func (s *xtSocket) entries(info *tableInfo) (memory, entries []byte, err error) {
	const head = int(unsafe.Sizeof(getEntries{}))
	memory, err = unix.Mmap(-1, 0, head+int(info.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, err
	}
	_ = unix.Madvise(memory, unix.MADV_HUGEPAGE) // thousands of page faults less, where the kernel has such pages
	ask := (*getEntries)(unsafe.Pointer(&memory[0]))
	ask.name, ask.size = info.name, info.size
	if err := s.get(xtGetEntries, unsafe.Pointer(ask), uintptr(len(memory))); err != nil {
		_ = unix.Munmap(memory)
		return nil, nil, err
	}
	return memory, memory[head:], nil
}

func (s *xtSocket) clearCounters(entries []byte) error {
	for rest := entries; len(rest) > 0; {
		if len(rest) < s.headSize {
			return fmt.Errorf("%d bytes at the end are no entry", len(rest))
		}
		next := int(*(*uint16)(unsafe.Pointer(&rest[s.nextOffset])))
		if next < s.headSize || next > len(rest) {
			return fmt.Errorf("an entry of %d bytes", next)
		}
		clear(rest[s.headSize-xtCounters : s.headSize])
		rest = rest[next:]
	}
	return nil
}

func (s *xtSocket) get(option int, p unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), uintptr(s.level), uintptr(option), uintptr(p), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
