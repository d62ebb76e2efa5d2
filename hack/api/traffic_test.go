package api

import (
	"bufio"
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

	"svcproxy/pkg/kernel/kerneltest"
)

// podPort is where pods serve.
const podPort = 8080

// patience is how long a client waits: long enough for a SYN that is lost on a busy
// machine to be sent again twice.
const patience = 5 * time.Second

// servePods answers on the addresses of all pods: each byte with the address that
// the connection came to.
func (s *surroundings) servePods() {
	s.t.Helper()
	s.inside(servingHost, func() {
		l, err := net.Listen("tcp4", fmt.Sprintf(":%d", podPort))
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go answer(c)
			}
		}()
	})
}

func answer(c net.Conn) {
	defer func() { _ = c.Close() }()
	line := []byte(c.LocalAddr().String() + "\n")
	for buf := make([]byte, 1); ; {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write(line); err != nil {
			return
		}
	}
}

// client is a place that connections come from.
type client struct {
	host string
	src  string // empty: whatever the kernel takes
}

// connection is one that is open.
type connection struct {
	net.Conn
	lines *bufio.Reader
}

// connect opens a connection; the caller is in the client's namespace.
func connect(from client, to netip.AddrPort) (*connection, error) {
	d := net.Dialer{Timeout: patience}
	if from.src != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from.src)}
	}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		return nil, err
	}
	return &connection{c, bufio.NewReader(c)}, nil
}

// ask sends a question and returns the pod that answered it.
func (c *connection) ask() (string, error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("?")); err != nil {
		return "", err
	}
	line, err := c.lines.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// askOnce opens a connection, asks, and closes it.
func askOnce(from client, to netip.AddrPort) (string, error) {
	c, err := connect(from, to)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	return c.ask()
}

// traffic is connections that stay open and others that come all the while.
type traffic struct {
	around  *surroundings
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
func startTraffic(s *surroundings, routes []route) *traffic {
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
		if err := kerneltest.Inside(t.around.namespace(host), f); err != nil {
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

// from is the i-th client of a host; the sources of connections are spread.
func from(host string, i int) client {
	all := addressesOf(host)
	if host == nodeHost {
		return client{host: host}
	}
	return client{host: host, src: all[i%len(all)]}
}

func (t *traffic) openAndClose(r route, w int) {
	for i := w; !t.ended(); i += workers {
		f, to := from(r.host, i/len(r.to)), r.to[i%len(r.to)]
		began, phase := time.Now(), t.in()
		resent, err := t.openOne(f, to)
		if err != nil {
			t.fail("%s: a new connection from %s %s to %s, begun %v ago in %q: %v", t.in(), r.host, f.src, to, time.Since(began), phase, err)
		}
		t.opened.Add(1)
		t.resent.Add(int64(resent))
		time.Sleep(pause)
	}
}

// openOne also returns how many packets had to be sent again.
func (t *traffic) openOne(from client, to netip.AddrPort) (resent uint32, err error) {
	c, err := connect(from, to)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.ask(); err != nil {
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
	c, err := connect(f, to)
	if err != nil {
		t.fail("open a connection from %s to %s: %v", r.host, to, err)
		return
	}
	defer func() { _ = c.Close() }()
	pod := ""
	for !t.ended() {
		answer, err := c.ask()
		if err != nil || pod != "" && answer != pod {
			t.fail("%s: an open connection from %s %s to %s: %q after %q, %v", t.in(), r.host, f.src, to, answer, pod, err)
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
func (s *surroundings) reached(host string, to netip.AddrPort, connections int) []string {
	var pods []string
	s.inside(host, func() {
		for i := range connections {
			pod, err := askOnce(from(host, i), to)
			pod, _, _ = strings.Cut(pod, ":")
			if err != nil {
				pod = err.Error()
			}
			pods = append(pods, pod)
		}
	})
	slices.SortFunc(pods, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	return slices.Compact(pods)
}
