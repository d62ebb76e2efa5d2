package api

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"svcproxy/hack/internal/echo"
	"svcproxy/hack/internal/surroundings"
)

// patience is how long a client waits: long enough for a SYN that is lost on a busy
// machine to be sent again twice.
const patience = 5 * time.Second

// traffic is connections that stay open and others that come all the while.
type traffic struct {
	around  *around
	stop    chan struct{}
	workers sync.WaitGroup

	opened, asked atomic.Int64
	resent        atomic.Int64 // packets of connections that were opened

	mu       sync.Mutex
	phase    string
	failures []string
}

// route is where connections come from and what they go to.
type route struct {
	host string
	to   []netip.AddrPort
}

// Each host opens connections by so many workers, each after a pause; as many
// connections stay open.
const (
	workers = 4
	pause   = 4 * time.Millisecond
	kept    = 6
)

// startTraffic begins connections on all routes.
func startTraffic(s *around, routes []route) *traffic {
	t := &traffic{around: s, stop: make(chan struct{})}
	for _, r := range routes {
		for w := range workers {
			t.begin(r.host, func() { t.openAndClose(r, w) })
		}
		for k := range kept {
			t.begin(r.host, func() { t.keepOpen(r, k) })
		}
	}
	return t
}

// begin starts a worker in the namespace of a host.
func (t *traffic) begin(host string, f func()) {
	t.workers.Go(func() {
		if err := t.around.Do(host, func() error { f(); return nil }); err != nil {
			t.fail("enter the namespace of %s: %v", host, err)
		}
	})
}

func (t *traffic) ended() bool {
	select {
	case <-t.stop:
		return true
	default:
		return false
	}
}

// from is the i-th address that a host connects from; the sources of connections
// are spread.
func from(host string, i int) netip.AddrPort {
	if host == surroundings.Node {
		return netip.AddrPort{}
	}
	all := surroundings.Addresses(host)
	return netip.AddrPortFrom(all[i%len(all)], 0)
}

func (t *traffic) openAndClose(r route, w int) {
	for i := w; !t.ended(); i += workers {
		f, to := from(r.host, i/len(r.to)), r.to[i%len(r.to)]
		began, phase := time.Now(), t.in()
		resent, err := t.openOne(f, to)
		if err != nil {
			t.fail("%s: a new connection from %s %s to %s, begun %v ago in %q: %v", t.in(), r.host, f.Addr(), to, time.Since(began), phase, err)
		}
		t.opened.Add(1)
		t.resent.Add(int64(resent))
		time.Sleep(pause)
	}
}

// openOne also returns how many packets had to be sent again.
func (t *traffic) openOne(from, to netip.AddrPort) (resent uint32, err error) {
	c, err := echo.Dial("tcp", from, to, patience)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Ask(); err != nil {
		return 0, err
	}
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	var failed error
	if err := raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return info.Total_retrans, nil
}

func (t *traffic) keepOpen(r route, k int) {
	f, to := from(r.host, k), r.to[k%len(r.to)]
	c, err := echo.Dial("tcp", f, to, patience)
	if err != nil {
		t.fail("open a connection from %s to %s: %v", r.host, to, err)
		return
	}
	defer func() { _ = c.Close() }()
	pod := ""
	for !t.ended() {
		answer, err := c.Ask()
		if err != nil || pod != "" && answer != pod {
			t.fail("%s: an open connection from %s %s to %s: %q after %q, %v", t.in(), r.host, f.Addr(), to, answer, pod, err)
			return
		}
		pod = answer
		t.asked.Add(1)
		time.Sleep(5 * pause)
	}
}

// during says what happens from now on, for messages.
func (t *traffic) during(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = fmt.Sprintf(format, args...)
}

func (t *traffic) in() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phase
}

func (t *traffic) fail(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// end ends all connections; a failure of one fails the test.
func (t *traffic) end(test *testing.T) {
	test.Helper()
	close(t.stop)
	t.workers.Wait()
	test.Logf("%d connections opened, for which %d packets were sent again; %d questions asked on those kept open; %d failures",
		t.opened.Load(), t.resent.Load(), t.asked.Load(), len(t.failures))
	if t.resent.Load() > t.opened.Load()/1000 {
		test.Error("more than one of 1,000 connections lost a packet: there was a gap")
	}
	for _, f := range t.failures[:min(len(t.failures), 20)] {
		test.Error(f)
	}
}

// reached returns the pods that answer, sorted, as so many new connections find them.
func (a *around) reached(host string, to netip.AddrPort, connections int) []string {
	var pods []string
	a.inside(host, func() error {
		for i := range connections {
			pod, err := echo.AskOnce("tcp", from(host, i), to, patience)
			pod, _, _ = strings.Cut(pod, ":")
			if err != nil {
				pod = err.Error()
			}
			pods = append(pods, pod)
		}
		return nil
	})
	slices.SortFunc(pods, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return slices.Compact(pods)
}
