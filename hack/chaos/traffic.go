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

// count is the tally of what began in a phase of the run.
type count struct {
	tally tally
	began time.Time

	mu   sync.Mutex
	said []string // the first failures
}

// maxSaid bounds how many failures of a phase are told.
const maxSaid = 5

func (c *count) fail(which *int64, format string, args ...any) {
	atomic.AddInt64(which, 1)
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
	t.phase()
	for w := range openers {
		t.begin(func() { t.open(ctx, uint64(w)) })
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
			c := t.now.Load()
			c.fail(&c.tally.Lost, "a client cannot work: %v", err)
		}
	})
}

// phase begins a new count.
func (t *traffic) phase() *count {
	c := &count{began: time.Now()}
	t.now.Store(c)
	return c
}

// source is one of the client's addresses.
func source(i int) netip.Addr {
	all := surroundings.Addresses(surroundings.Client)
	return all[i%len(all)]
}

// open opens one connection after the other to targets by turns.
func (t *traffic) open(ctx context.Context, worker uint64) {
	random := rand.New(rand.NewPCG(t.seed, worker))
	for i := 0; wait.Sleep(ctx, pause) == nil; i++ {
		to := t.services.targets[random.IntN(len(t.services.targets))]
		c, began := t.now.Load(), time.Now()
		pod, err := echo.AskOnce(to.network, source(i), to.at, patience)
		if ctx.Err() != nil {
			return
		}
		atomic.AddInt64(&c.tally.Opened, 1)
		right, once := to.members.serves(pod, began)
		switch {
		case err != nil:
			c.fail(&c.tally.Lost, "%s over %s, after %.1f s: %v", to.name, to.network, time.Since(began).Seconds(), err)
		case right:
		case once:
			c.fail(&c.tally.Stale, "%s over %s got to %s, which has left", to.name, to.network, pod)
		default:
			c.fail(&c.tally.Lost, "%s over %s got to %s, which never was an endpoint", to.name, to.network, pod)
		}
	}
}

// keep asks on one connection for as long as it lasts, 0: until the end, then on
// another one.
func (t *traffic) keep(ctx context.Context, k int, network string, lasts time.Duration) {
	to := t.services.kept(network)
	for ctx.Err() == nil {
		conn, err := echo.Dial(network, source(k), to.at, time.Second)
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
		c.fail(&c.tally.Broken, "an open connection over %s: %v", conn.RemoteAddr().Network(), err)
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
	const soon = time.Second
	began, ok := time.Now(), true
	err := t.around.Do(surroundings.Client, func() error {
		for i, to := range t.services.targets {
			asks := 1
			if to.name == news {
				asks = 3
			}
			for range asks {
				pod, err := echo.AskOnce(to.network, source(i), to.at, soon)
				right, _ := to.members.serves(pod, time.Now())
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
