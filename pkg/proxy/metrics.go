package proxy

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is what svcproxy tells Prometheus of itself: under the names of
// kube-proxy's iptables mode what that tells too, and the rest under svcproxy_.
// docs/metrics.md lists all. It is safe for concurrent use, and its methods cost
// no more for many Services than for few.
type Metrics struct {
	registry, slis *prometheus.Registry
	start          time.Time

	syncs     syncMetrics
	state     stateMetrics
	changes   changeCollector
	packets   packetCollector
	conntrack conntrackMetrics
	health    healthMetrics
	requests  requestMetrics
}

// NewMetrics returns the metrics of a program of the given version, in a registry
// of their own.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), slis: prometheus.NewRegistry(), start: time.Now(),
		syncs: newSyncMetrics(), state: newStateMetrics(), conntrack: newConntrackMetrics(),
		health: newHealthMetrics(), requests: newRequestMetrics(),
	}
	build := newGauge("svcproxy_build_info", "1, with the version of svcproxy as a label.", "version")
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(build, &m.changes, &m.packets,
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)))
	for _, of := range [][]prometheus.Collector{m.syncs.all(), m.state.all(), m.conntrack.all(), m.health.all(), m.requests.all()} {
		m.registry.MustRegister(of...)
	}
	started := newGauge("process_start_time_seconds", "When the process started, in seconds since 1970.")
	started.WithLabelValues().Set(float64(m.start.UnixMilli()) / 1000)
	m.slis.MustRegister(append(m.health.indicators(), started)...)
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler { return m.serve(m.registry) }

// SLIHandler serves those that tell whether a component of Kubernetes is well
// (KEP-3466).
func (m *Metrics) SLIHandler() http.Handler { return m.serve(m.slis) }

func (m *Metrics) serve(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, ProcessStartTime: m.start})
}

// serves adds a family: its series are there from the start, and counters begin
// at 0. It returns the family's kernel, which counts what is written to it.
func (m *Metrics) serves(f *Family) *countedKernel {
	m.changes.begin(f.Config.Family)
	m.syncs.begin(f.Config.Family)
	m.state.begin(f.Config.Family)
	m.conntrack.begin(f.Config.Family)
	if f.Dropped != nil {
		m.packets.follow(f.Dropped)
	}
	return &countedKernel{Kernel: f.Kernel, family: f.Config.Family, metrics: &m.syncs}
}

// Names of labels.
const (
	labelFamily = "ip_family"
	labelTable  = "table"
)

func newCounter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func newGauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

// newHistogram makes one in both forms, as kube-proxy since v1.37 does: with the
// buckets given, and for those who ask for it as a native one.
func newHistogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
	}, labels)
}

// workBuckets are those of the times that work takes: 1 ms to 16 s.
func workBuckets() []float64 { return prometheus.ExponentialBuckets(0.001, 2, 15) }
