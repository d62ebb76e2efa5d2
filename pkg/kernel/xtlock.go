package kernel

import (
	"cmp"
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

// came takes in what has come and reports whether that was anything.
func (l *xtLock) came() bool {
	if l.fd < 0 {
		l.open()
		return false
	}
	came := false
	for {
		n, err := unix.Read(l.fd, l.buffer[:])
		if n <= 0 && err != unix.EINTR {
			return came
		}
		came = true
	}
}

// open watches the lock file if there is one: the first command makes it.
func (l *xtLock) open() {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return
	}
	path := cmp.Or(os.Getenv("XTABLES_LOCKFILE"), "/run/xtables.lock")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_CLOSE); err != nil {
		_ = unix.Close(fd)
		return
	}
	l.fd = fd
}

func (l *xtLock) close() {
	if l.fd >= 0 {
		_ = unix.Close(l.fd)
	}
	l.fd = -1
}
