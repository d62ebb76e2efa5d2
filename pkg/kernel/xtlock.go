//go:build linux

package kernel

import (
	"cmp"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// xtLock counts the runs of legacy iptables commands: all of them open the file of
// the xtables lock, and close it when they are done. Programs that write tables
// without it are not counted.
type xtLock struct {
	fd      int // of an inotify instance that watches the file; -1: not yet
	buffer  [256]byte
	counted uint64
}

func newXTLock() *xtLock { return &xtLock{fd: -1} }

// runs is a number that has grown when somebody else has run a command.
func (l *xtLock) runs() uint64 {
	if l.came() {
		l.counted++
	}
	return l.counted
}

// forget leaves out the commands that have been run since the last call of runs:
// they are ours, all but rarely.
func (l *xtLock) forget() { l.came() }

// came takes in what has come and reports whether that was anything. A file that is
// there only now was made by a command.
func (l *xtLock) came() bool {
	if l.fd < 0 {
		return l.open()
	}
	came := false
	for {
		n, err := unix.Read(l.fd, l.buffer[:])
		switch {
		case err == unix.EINTR:
		case n <= 0:
			return came
		case fileGone(l.buffer[:n]):
			l.close()
			l.open()
			return true
		default:
			came = true
		}
	}
}

// fileGone reports whether one of these events of inotify is that the file which is
// watched was deleted, and is watched no more.
func fileGone(events []byte) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		if binary.NativeEndian.Uint32(events[4:])&unix.IN_IGNORED != 0 {
			return true
		}
		events = events[unix.SizeofInotifyEvent:] // no name follows where a file is watched
	}
	return false
}

// open watches the lock file and reports whether there is one: the first command
// makes it.
func (l *xtLock) open() bool {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return false
	}
	path := cmp.Or(os.Getenv("XTABLES_LOCKFILE"), "/run/xtables.lock")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_CLOSE); err != nil {
		_ = unix.Close(fd)
		return false
	}
	l.fd = fd
	return true
}

func (l *xtLock) close() {
	if l.fd >= 0 {
		_ = unix.Close(l.fd)
	}
	l.fd = -1
}
