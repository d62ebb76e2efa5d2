package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"svcproxy/hack/internal/machine"
	"svcproxy/hack/internal/wait"
)

// healWithin is how long svcproxy may take to heal, and to have the rules of a fresh
// load.
const healWithin = 5 * time.Second

// healLimit is how long is waited for a proxy to heal: more than kube-proxy's period
// for looking after its rules.
const healLimit = 45 * time.Second

// firstSync is how long a proxy that starts may take to serve.
const firstSync = time.Minute

// leeway is how much more a process may have after a fault than before: a request that
// is on its way, a file that is read.
const leeway = 6

// runner is a run of faults.
type runner struct {
	*scene
	say    func(format string, args ...any)
	result *result
	counts []*count // of the trials, in their order
	quiet  []*count // of what was between them
}

// play makes faults one after the other until the time is over, each once at least,
// and returns what came of them. say is told how it goes.
func play(ctx context.Context, opts *options, dir string, say func(string, ...any)) (*result, error) {
	r := &runner{say: say, result: &result{
		Proxy: "kube-proxy", Backend: opts.kind.Backend, Version: machine.KubeProxyVersion(opts.bin + "/kube-proxy"),
		Seed: opts.seed, Began: time.Now().UTC(), Machine: machine.Describe(),
	}}
	if opts.kind.Ours {
		r.result.Proxy, r.result.Version = "svcproxy", ""
	}
	say("%s on iptables-%s, seed %d", r.result.Proxy, opts.kind.Backend, opts.seed)
	var err error
	if r.scene, err = newScene(ctx, opts, dir); err != nil {
		return nil, err
	}
	defer r.scene.end()
	if err := r.work(ctx); err != nil {
		return nil, fmt.Errorf("%w; the proxy's last words: %s", err, r.node.proxy.Tail(10))
	}
	return r.result, nil
}

// work has clients work, and makes faults.
func (r *runner) work(ctx context.Context) error {
	background, stop := context.WithCancel(ctx)
	r.traffic = startTraffic(background, r.around, r.services, r.opts.seed)
	var changes sync.WaitGroup
	changes.Go(func() { r.services.keepChanging(background) })
	failed := r.rounds(ctx)
	stop()
	changes.Wait()
	r.traffic.workers.Wait()
	if failed != nil {
		return failed
	}
	r.result.Lasted = time.Since(r.result.Began)
	r.judge()
	return nil
}

// rounds tries all faults in random order, again and again.
func (r *runner) rounds(ctx context.Context) error {
	if _, ok := r.served(ctx, answers([]int{10})[0], firstSync); !ok {
		return fmt.Errorf("it does not serve after %v", firstSync)
	}
	var err error
	if r.result.First, err = r.rest(ctx); err != nil {
		return err
	}
	for round := 0; round == 0 || time.Since(r.result.Began) < r.opts.lasts; round++ {
		var all []*fault
		for _, f := range r.opts.chosen() {
			for range max(1, f.times) {
				all = append(all, f)
			}
		}
		r.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, f := range all {
			if round > 0 && time.Since(r.result.Began) > r.opts.lasts {
				break
			}
			if err := r.try(ctx, f); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	r.result.Last, err = r.rest(ctx)
	return err
}

// rest lets nothing change for a while, and returns what the process has then.
func (r *runner) rest(ctx context.Context) (gauges, error) {
	r.quiet = append(r.quiet, r.traffic.phase(false))
	r.services.changing.Lock()
	defer r.services.changing.Unlock()
	if err := wait.Sleep(ctx, r.long(3*time.Second, time.Second)); err != nil {
		return gauges{}, err
	}
	return r.node.gauges(ctx)
}

// try makes a fault and sees how it heals.
func (r *runner) try(ctx context.Context, f *fault) error {
	before, err := r.node.gauges(ctx)
	if err != nil {
		return fmt.Errorf("metrics before: %w", err)
	}
	started := r.node.started
	t := trial{Fault: f.name}
	r.counts = append(r.counts, r.traffic.phase(true))
	told := make(chan string, 1)
	go func() {
		pod, _ := r.services.tell(ctx)
		told <- pod
	}()
	began := time.Now()
	if err := f.make(ctx, r.scene); err != nil {
		return err
	}
	over := time.Now()
	t.Lasted = over.Sub(began)
	pod := <-told
	healed, ok := r.served(ctx, pod, healLimit)
	if t.Heal = max(0, healed.Sub(over)); !ok {
		t.Heal = -1
		if err := r.startAnew(ctx, f, pod); err != nil {
			return err
		}
	}
	if r.node.kind.Ours {
		if err := r.inspect(ctx, f, &t, before, started); err != nil {
			return err
		}
	}
	r.quiet = append(r.quiet, r.traffic.phase(false))
	c := r.counts[len(r.counts)-1]
	r.say("%-18s lasted %5.1f s, healed: %s, as fresh after %4.1f s; of %d connections %d lost, %d stale, %d broken", f.name, t.Lasted.Seconds(),
		healings([]time.Duration{t.Heal}), t.Fresh.Seconds(), atomic.LoadInt64(&c.tally.Opened), atomic.LoadInt64(&c.tally.Lost),
		atomic.LoadInt64(&c.tally.Stale), atomic.LoadInt64(&c.tally.Broken))
	if first := c.first(); first != "" {
		r.say("  at first: %s", first)
	}
	r.result.Trials = append(r.result.Trials, t)
	return nil
}

// startAnew restarts a proxy that does not heal.
func (r *runner) startAnew(ctx context.Context, f *fault, told string) error {
	r.violated(f.name, "not healed after %v: %s", healLimit, r.node.proxy.Tail(3))
	if err := r.node.giveUp(ctx); err != nil {
		return err
	}
	if _, ok := r.served(ctx, told, firstSync); !ok {
		return fmt.Errorf("started anew, it does not serve after %v", firstSync)
	}
	return nil
}

// inspect checks that svcproxy has left nothing behind after a fault, in the kernel or
// of its own.
func (r *runner) inspect(ctx context.Context, f *fault, t *trial, before gauges, started int) error {
	r.services.changing.Lock()
	defer r.services.changing.Unlock()
	var err error
	if t.Fresh, err = r.equalsFresh(ctx, f.late+r.opts.within); err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.violated(f.name, "%v", err)
	}
	// A process that has not found back to the API server yet, after the fault before, has
	// fewer than one at rest.
	goroutines, fds := max(before.Goroutines, r.result.First.Goroutines), max(before.FDs, r.result.First.FDs)
	var left string
	for end := time.Now().Add(r.opts.within); ; {
		now, err := r.node.gauges(ctx)
		children := r.node.proxy.Children()
		same := r.node.started == started
		switch {
		case err != nil:
			return fmt.Errorf("metrics after: %w", err)
		case len(children) > 0:
			left = fmt.Sprintf("processes %v are left", children)
		case same && now.Goroutines > goroutines+leeway:
			left = fmt.Sprintf("%.0f goroutines became %.0f", goroutines, now.Goroutines)
		case same && now.FDs > fds+leeway:
			left = fmt.Sprintf("%.0f open files became %.0f", fds, now.FDs)
		default:
			return nil
		}
		if time.Now().After(end) {
			r.violated(f.name, "%s", left)
			return nil
		}
		if err := wait.Sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// violated notes what is not as it has to be. kube-proxy has to nothing.
func (r *runner) violated(fault, format string, args ...any) {
	what := fault + ": " + fmt.Sprintf(format, args...)
	r.say("  %s", what)
	if r.opts.kind.Ours {
		r.result.Violations = append(r.result.Violations, what)
	}
}

// judge counts what became of all connections, and looks for those that had to be
// served. All have ended.
func (r *runner) judge() {
	known := map[string]*fault{}
	for _, f := range faults() {
		known[f.name] = f
	}
	for i := range r.result.Trials {
		t, c := &r.result.Trials[i], r.counts[i]
		t.Tally = c.tally
		f := known[t.Fault]
		if lost := t.Tally.Lost + t.Tally.Broken; lost > 0 && !f.gone {
			r.violated(f.name, "%d connections were lost: %q", lost, c.said)
		}
		if t.Tally.Stale > 0 && !f.stuck && r.inTime() {
			r.violated(f.name, "%d connections got to pods that had left: %q", t.Tally.Stale, c.said)
		}
		if limit := f.late + r.opts.within; t.Heal > limit || t.Fresh > limit {
			r.violated(f.name, "all was served again after %v, and as after a fresh load after %v, more than %v", t.Heal, t.Fresh, limit)
		}
	}
	for _, c := range r.quiet {
		if c.tally.Lost+c.tally.Broken > 0 || c.tally.Stale > 0 && r.inTime() {
			r.violated("between faults", "connections failed: %q", c.said)
		}
		r.result.Between.add(c.tally)
	}
}

// inTime reports whether svcproxy may be late for nothing; a slower machine makes all
// of it slower.
func (r *runner) inTime() bool { return r.opts.within <= healWithin }

func (t *tally) add(more tally) {
	t.Opened += more.Opened
	t.Lost += more.Lost
	t.Stale += more.Stale
	t.Asked += more.Asked
	t.Broken += more.Broken
}
