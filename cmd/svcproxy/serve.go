package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/proxy"
	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// client returns access to the API server. Each one has rate limits of its own. m
// counts its requests, and those that follow the cluster outlast an API server that
// is away, and get uncompressed lists; nil: nobody counts, and who asks once is told at
// once.
func (o *options) client(m *proxy.Metrics) (kubernetes.Interface, error) {
	client := &o.settings.ClientConnection
	cfg, err := clientcmd.BuildConfigFromFlags(o.master, client.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w; give --kubeconfig, or -f to read objects from files", err)
	}
	cfg.UserAgent = "svcproxy/" + version
	cfg.AcceptContentTypes, cfg.ContentType = client.AcceptContentTypes, client.ContentType
	cfg.QPS, cfg.Burst = client.QPS, int(client.Burst)
	if m != nil {
		cfg.DisableCompression = true // it costs both ends more than the way inside a cluster does (kubernetes#80919)
		cfg.Wrap(m.Transport)
		cfg.Wrap(watch.Patient)
	}
	api, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	return api, nil
}

// source returns where objects come from, as the flags say.
func (o *options) source(m *proxy.Metrics) (proxy.Source, error) {
	if len(o.files) > 0 {
		return o.addressed(watch.NewFiles(o.files, o.settings.nodeName, o.stdin)), nil
	}
	api, err := o.client(m)
	if err != nil {
		return nil, err
	}
	return o.addressed(watch.NewCluster(api, o.settings.nodeName)), nil
}

// addressed makes the source say the node's address that was configured.
func (o *options) addressed(src proxy.Source) proxy.Source {
	if !o.settings.nodeAddress.IsValid() {
		return src
	}
	return addressedSource{src, o.settings.nodeAddress}
}

// objectsPatience is how long a command waits for all objects of a cluster.
const objectsPatience = time.Minute

// snapshot returns the state of now and ends the source.
func (o *options) snapshot(ctx context.Context) (*rules.Snapshot, []watch.Problem, error) {
	return o.snapshotWithin(ctx, objectsPatience)
}

// snapshotMeanwhile begins with snapshot, whose result wait returns.
func (o *options) snapshotMeanwhile(ctx context.Context) (wait func() (*rules.Snapshot, []watch.Problem, error)) {
	var snap *rules.Snapshot
	var problems []watch.Problem
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		snap, problems, err = o.snapshot(ctx)
	}()
	return func() (*rules.Snapshot, []watch.Problem, error) {
		<-done
		return snap, problems, err
	}
}

func (o *options) snapshotWithin(ctx context.Context, patience time.Duration) (*rules.Snapshot, []watch.Problem, error) {
	src, err := o.source(nil)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("read the objects: not all are there after %v: see that the API server can be reached, or give objects by -f", patience))
	defer cancel()
	err = begin(ctx, src)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, nil, context.Cause(ctx)
	case err != nil:
		return nil, nil, err
	}
	snap, problems := src.Snapshot()
	return snap, problems, nil
}

// begin starts a source and waits until it knows everything.
func begin(ctx context.Context, src proxy.Source) error {
	failed := make(chan error, 1)
	go func() { failed <- src.Run(ctx) }()
	select {
	case <-src.Changed():
		return nil
	case err := <-failed:
		return fmt.Errorf("read the objects: %w", errors.Join(err, context.Cause(ctx)))
	case <-ctx.Done():
		return fmt.Errorf("read the objects: %w", context.Cause(ctx))
	}
}

// natChains is how many chains go into one transaction of the nft backend, whose
// loader takes time quadratic in them. Legacy copies the table for each one, so
// there one transaction is best.
const natChains = 1000

// kernels is what the proxy needs to know about the families that it serves. prepare,
// unless nil, is called once their tables can be used, and so have loaded their modules,
// and before anything is decided by the sysctls of the node: for what sets these.
func (o *options) kernels(ctx context.Context, prepare func(context.Context)) ([]proxy.Family, error) {
	host, err := o.openTables(ctx, true)
	if err != nil {
		return nil, err
	}
	for f, err := range host.left {
		klog.FromContext(ctx).Info("This node has no usable tables of a family, which is not served", "family", f, "reason", err.Error())
	}
	maxChains := 0
	if host.backend == kernel.NFT {
		maxChains = natChains
	}
	if prepare != nil {
		prepare(ctx)
	}
	var out []proxy.Family
	for _, f := range host.families {
		family := o.family(ctx, f, host.tables[f], maxChains)
		family.Live.Backend = host.backend
		out = append(out, family)
	}
	klog.FromContext(ctx).V(1).Info("Using iptables", "backend", host.backend)
	return out, nil
}

// configHere is config, with what the sysctls of this node ask for.
func (o *options) configHere(f rules.Family) rules.Config {
	c := o.config(f)
	c.DropInvalid = c.DropInvalid && !kernel.ConntrackLiberal()
	return c
}

// family is what the proxy needs to know about a family. What depends on the
// sysctls of the node is decided here.
func (o *options) family(ctx context.Context, f rules.Family, tables *kernel.Tables, maxChains int) proxy.Family {
	flows := kernel.NewFlows(f)
	out := proxy.Family{Config: o.configHere(f), Kernel: tables, MaxChains: maxChains, Conntrack: flows, Missing: tables.Missing}
	out.Live = proxy.Live{
		JumpCounts: func() (proxy.JumpCounts, error) { return tables.JumpCounts() },
		EachFlow:   flows.Each,
	}
	if !out.Config.DropInvalid {
		klog.FromContext(ctx).Info("nf_conntrack_tcp_be_liberal is set: INVALID packets are not dropped", "family", f)
	}
	if table, chain, rule, ok := rules.InvalidDropped(out.Config); ok {
		out.Dropped = func(ctx context.Context) (uint64, error) { return tables.Packets(ctx, table, chain, rule) }
	}
	onLocalhost := out.Config.OnLocalhost()
	out.Ready = func(inForce rules.Config) error {
		return errors.Join(removeNFTablesMode(ctx, f), openLocalhost(onLocalhost, inForce.OnLocalhost()))
	}
	return out
}

// openLocalhost has the kernel route what is for node ports on localhost, if they are
// asked for and their guard is in force.
func openLocalhost(asked, guarded bool) error {
	switch {
	case !asked:
		return nil
	case !guarded:
		return errors.New("node ports are closed on localhost: the kernel lacks what guards them")
	}
	if err := kernel.Ensure([]kernel.Sysctl{kernel.RouteLocalnet}); err != nil {
		return fmt.Errorf("node ports are closed on localhost: %w; run svcproxy --init-only before, or give --iptables-localhost-nodeports=false", err)
	}
	return nil
}

// proxy makes what syncs. m may be nil, and event: nobody asks, nobody is told.
// prepare is that of kernels.
func (o *options) proxy(ctx context.Context, m *proxy.Metrics, event func(proxy.ServiceEvent), prepare func(context.Context)) (*proxy.Proxy, proxy.Source, error) {
	families, err := o.kernels(ctx, prepare)
	if err != nil {
		return nil, nil, err
	}
	src, err := o.source(m)
	if err != nil {
		return nil, nil, err
	}
	tables := &o.settings.IPTables
	opts := proxy.Options{MinSyncPeriod: tables.MinSyncPeriod.Duration, SyncPeriod: tables.SyncPeriod.Duration, Started: saveMemory,
		Event: event, Metrics: m, Version: version}
	return proxy.New(src, families, opts), src, nil
}

// gcPercent has garbage collected earlier than Go's 100 would: after the start
// nearly all memory is long-lived, a sync makes little garbage, and a node has other
// uses for it.
const gcPercent = 10

// saveMemory gives back what the start took, which made most garbage.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	debug.FreeOSMemory()
}

// setConntrack sets the sysctls of conntrack that the configuration asks for.
func (o *options) setConntrack(ctx context.Context) {
	if err := kernel.Ensure(o.settings.conntrackSysctls()); err != nil {
		klog.FromContext(ctx).Error(err, "Conntrack stays as the node has it; run svcproxy --init-only before, with the right to set sysctls")
	}
}

// runProxy serves until ctx ends or the configuration changes.
func (o *options) runProxy(ctx context.Context) error {
	ctx, cancel := o.untilReconfigured(ctx)
	defer cancel()
	m := proxy.NewMetrics(version)
	recorder, err := o.recorder(ctx, m)
	if err != nil {
		return err
	}
	if err := o.await(ctx, proxy.Listener{Flag: healthzFlag, Address: o.settings.HealthzBindAddress},
		proxy.Listener{Flag: metricsFlag, Address: o.settings.MetricsBindAddress}); err != nil {
		tellTaken(ctx, recorder, err)
		return err
	}
	p, _, err := o.proxy(ctx, m, telling(recorder), o.setConntrack)
	if err != nil {
		return err
	}
	if err := kernel.SetOOMScoreAdj(int(*o.settings.OOMScoreAdj)); err != nil {
		klog.FromContext(ctx).Info("Where memory is short, this process counts like others of its container", "reason", err.Error())
	}
	local, err := o.localHandlers(p)
	if err != nil {
		return err
	}
	for _, s := range []struct {
		flag, address string
		handler       http.Handler
	}{
		{healthzFlag, o.settings.HealthzBindAddress, p.Health().Handler()},
		{metricsFlag, o.settings.MetricsBindAddress, o.localHandler(local)},
	} {
		if s.address == "" {
			continue
		}
		stop, err := serve(ctx, s.flag, s.address, s.handler)
		if err != nil {
			lastWords(ctx, recorder, notServed[s.flag], err)
			return err
		}
		defer stop()
	}
	recorder.Node(corev1.EventTypeNormal, "Starting", "")
	klog.FromContext(ctx).Info("Starting", "version", version, "node", o.settings.nodeName)
	return p.Run(ctx)
}

// serve starts a server on the address that a flag gives; stop ends it.
func serve(ctx context.Context, flag, address string, h http.Handler) (stop func(), err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second}
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			klog.FromContext(ctx).Error(err, "Server ended", "flag", flag)
		}
	}()
	return func() { _ = srv.Close() }, nil
}

// runOnce syncs once.
func (o *options) runOnce(ctx context.Context) error {
	if err := o.await(ctx); err != nil {
		return err
	}
	p, src, err := o.proxy(ctx, nil, nil, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := begin(ctx, src); err != nil {
		return err
	}
	if err := p.Sync(ctx); err != nil {
		return err
	}
	p.CleanFlows(ctx)
	var refused []string
	for _, q := range p.Quarantined() {
		refused = append(refused, fmt.Sprintf("%s (%s)", q.Port, q.Family))
	}
	if len(refused) > 0 {
		return fmt.Errorf("the kernel refuses the rules of %s; all the rest is served", strings.Join(refused, ", "))
	}
	return nil
}

// runInit sets what takes more rights than serving does.
func (o *options) runInit() error {
	settings := o.settings.conntrackSysctls()
	for _, f := range o.families {
		if cfg := o.config(f); cfg.OnLocalhost() {
			settings = append(settings, kernel.RouteLocalnet)
		}
	}
	return kernel.EnsureIn(o.sysctlDir, settings)
}

// runCleanup removes what a service proxy left, on whichever backend it is.
func (o *options) runCleanup(ctx context.Context) error {
	o.warnOfOthers(ctx)
	return kernel.Cleanup(ctx, o.families)
}
