package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"svcproxy/hack/internal/echo"
	"svcproxy/hack/internal/surroundings"
	"svcproxy/hack/internal/wait"
)

// patience is how long a client waits for a connection, and for an answer: long enough
// for a SYN that is lost on a busy machine to be sent again twice.
const patience = 5 * time.Second

// keptPatience is how long an answer on a connection that is kept open may take. Over
// UDP nothing is sent again.
func keptPatience(network string) time.Duration {
	if network == "udp" {
		return 2 * time.Second
	}
	return patience
}

// Clients open connections by so many workers, each after a pause. Some connections
// stay open until the end, and so many exchanges over UDP go on for a while: one that
// begins while rules are missing could lead nowhere as long as it lasts.
const (
	openers   = 6
	keepers   = 6
	flows     = 6
	flowLasts = 6 * time.Second
	pause     = 10 * time.Millisecond
	keepPause = 50 * time.Millisecond
)

// tally is what became of connections.
type tally struct {
	Opened int64 // TCP connections and exchanges over UDP
	Lost   int64 // of these, those that failed, or got to a pod that never was an endpoint
	Stale  int64 // of these, those that got to a pod that had left more than grace before
	Asked  int64 // questions on connections that are kept open
	Broken int64 // connections kept open that broke, and questions over UDP without an answer
}

// failure is what may become of a connection.
type failure int

const (
	lost failure = iota
	stale
	broken
)

// count is where a kind of failure is counted.
func (t *tally) count(what failure) *int64 {
	return [...]*int64{&t.Lost, &t.Stale, &t.Broken}[what]
}

// count is the tally of what began in a phase of the run: while there was a fault, or
// none.
type count struct {
	tally tally
	fault bool
	began time.Time
	next  atomic.Pointer[count] // the phase after this one

	mu   sync.Mutex
	said []string // the first failures
}

// of returns the phase that a failure now belongs to: what a fault has struck that
// began before is the fault's.
func (c *count) of() *count {
	for next := c.next.Load(); !c.fault && next != nil; next = c.next.Load() {
		c = next
	}
	return c
}

// maxSaid bounds how many failures of a phase are told.
const maxSaid = 5

func (c *count) fail(what failure, format string, args ...any) {
	c = c.of()
	atomic.AddInt64(c.tally.count(what), 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.said) < maxSaid {
		c.said = append(c.said, fmt.Sprintf("%.1f s: ", time.Since(c.began).Seconds())+fmt.Sprintf(format, args...))
	}
}

// first is the first failure; empty: there is none.
func (c *count) first() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.said) == 0 {
		return ""
	}
	return c.said[0]
}

// traffic is clients at work.
type traffic struct {
	around   *surroundings.Surroundings
	services *services
	seed     uint64
	now      atomic.Pointer[count] // for what begins now
	answered []atomic.Int64        // when the connections kept open last had an answer, in ns
	workers  sync.WaitGroup
}

// startTraffic has clients begin; they end with ctx.
func startTraffic(ctx context.Context, around *surroundings.Surroundings, s *services, seed uint64) *traffic {
	t := &traffic{around: around, services: s, seed: seed, answered: make([]atomic.Int64, keepers+flows)}
	t.phase(true) // until the proxy serves
	for w := range openers {
		t.begin(func() { t.open(ctx, w) })
	}
	for k := range keepers + flows {
		network, lasts := "tcp", time.Duration(0)
		if k >= keepers {
			network, lasts = "udp", flowLasts
		}
		t.begin(func() { t.keep(ctx, k, network, lasts) })
	}
	return t
}

// begin starts a worker in the client's namespace.
func (t *traffic) begin(work func()) {
	t.workers.Go(func() {
		if err := t.around.Do(surroundings.Client, func() error { work(); return nil }); err != nil {
			t.now.Load().fail(lost, "a client cannot work: %v", err)
		}
	})
}

// phase begins a new count, of what begins while there is a fault or none.
func (t *traffic) phase(fault bool) *count {
	c := &count{fault: fault, began: time.Now()}
	if last := t.now.Swap(c); last != nil {
		last.next.Store(c)
	}
	return c
}

// source is one of the client's addresses. Openers have one each, what is kept open
// and what looks whether all is right have the next ones.
func source(i int) netip.AddrPort {
	return netip.AddrPortFrom(surroundings.Addresses(surroundings.Client)[i], 0)
}

// Ports of openers, which they take by turns: the kernel remembers for two minutes what
// it did with a connection that began while rules were missing, and would do so with
// another one from the same port.
const (
	firstPort = 10000
	manyPorts = 50000
)

// open opens one connection after the other to targets by turns.
func (t *traffic) open(ctx context.Context, worker int) {
	random := rand.New(rand.NewPCG(t.seed, uint64(worker)))
	for i := 0; wait.Sleep(ctx, pause) == nil; i++ {
		to := t.services.targets[random.IntN(len(t.services.targets))]
		c, began := t.now.Load(), time.Now()
		from := netip.AddrPortFrom(source(worker).Addr(), uint16(firstPort+i%manyPorts))
		pod, err := echo.AskOnce(to.network, from, to.at, patience)
		if ctx.Err() != nil {
			return
		}
		atomic.AddInt64(&c.tally.Opened, 1)
		right, once := to.members.serves(pod, began, grace)
		switch {
		case err != nil:
			c.fail(lost, "%s over %s, after %.1f s: %v", to.name, to.network, time.Since(began).Seconds(), err)
		case right:
		case once:
			c.fail(stale, "%s over %s got to %s, which has left", to.name, to.network, pod)
		default:
			c.fail(lost, "%s over %s got to %s, which never was an endpoint", to.name, to.network, pod)
		}
	}
}

// keep asks on one connection for as long as it lasts, 0: until the end, then on
// another one.
func (t *traffic) keep(ctx context.Context, k int, network string, lasts time.Duration) {
	to := t.services.kept(network)
	for ctx.Err() == nil {
		conn, err := echo.Dial(network, source(openers), to.at, keptPatience(network))
		if err != nil {
			_ = wait.Sleep(ctx, keepPause)
			continue
		}
		end := time.Now().Add(lasts)
		for intact := true; intact && (lasts == 0 || time.Now().Before(end)); {
			if wait.Sleep(ctx, keepPause) != nil {
				break
			}
			intact = t.ask(k, conn) || network == "udp"
		}
		_ = conn.Close()
	}
}

// ask asks once and reports whether there was an answer.
func (t *traffic) ask(k int, conn *echo.Conn) bool {
	c := t.now.Load()
	atomic.AddInt64(&c.tally.Asked, 1)
	if _, err := conn.Ask(); err != nil {
		c.fail(broken, "an open connection over %s: %v", conn.RemoteAddr().Network(), err)
		return false
	}
	t.answered[k].Store(time.Now().UnixNano())
	return true
}

// allAnswered reports whether each connection kept open has had an answer since then.
func (t *traffic) allAnswered(since time.Time) bool {
	for k := range t.answered {
		if t.answered[k].Load() < since.UnixNano() {
			return false
		}
	}
	return true
}

// right reports whether all targets are served as they are to be now, news by that
// pod alone.
func (t *traffic) right(ctx context.Context, told string) bool {
	// A change that came within lag may not be in the rules yet.
	const soon, lag = time.Second, 2 * time.Second
	began, ok := time.Now(), true
	err := t.around.Do(surroundings.Client, func() error {
		for _, to := range t.services.targets {
			asks := 1
			if to.name == news {
				asks = 3
			}
			for range asks {
				pod, err := echo.AskOnce(to.network, source(openers+1), to.at, soon)
				right, _ := to.members.serves(pod, time.Now(), lag)
				if ok = err == nil && right && (to.name != news || pod == told); !ok {
					return err
				}
			}
		}
		return nil
	})
	for end := time.Now().Add(soon); ok && err == nil && !t.allAnswered(began); {
		if ok = time.Now().Before(end); ok {
			err = wait.Sleep(ctx, pause)
		}
	}
	return ok && err == nil
}
