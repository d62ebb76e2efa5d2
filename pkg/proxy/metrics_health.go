package proxy

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"svcproxy/pkg/rules"
)

// healthMetrics count the answers to probes.
type healthMetrics struct {
	healthz, livez *prometheus.CounterVec
	check          *prometheus.GaugeVec
	checks         *prometheus.CounterVec
}

func newHealthMetrics() healthMetrics {
	m := healthMetrics{
		healthz: newCounter("kubeproxy_proxy_healthz_total", "Answers of /healthz.", "code"),
		livez:   newCounter("kubeproxy_proxy_livez_total", "Answers of /livez.", "code"),
		check:   newGauge("kubernetes_healthcheck", "1 if the check succeeded when it was last asked for.", "name", "type"),
		checks:  newCounter("kubernetes_healthchecks_total", "Results of the check.", "name", "type", "status"),
	}
	for _, code := range []string{"200", "503"} {
		m.healthz.WithLabelValues(code)
		m.livez.WithLabelValues(code)
	}
	return m
}

func (m *healthMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.healthz, m.livez}
}

func (m *healthMetrics) indicators() []prometheus.Collector {
	return []prometheus.Collector{m.check, m.checks}
}

// pinged notes that the server for the node itself answers.
func (m *healthMetrics) pinged() {
	m.check.WithLabelValues("ping", "healthz").Set(1)
	m.checks.WithLabelValues("ping", "healthz", "success").Inc()
}

// counted counts the codes of the answers that h gives.
func counted(by *prometheus.CounterVec, h http.HandlerFunc) http.HandlerFunc {
	return promhttp.InstrumentHandlerCounter(by, h)
}

// conntrackMetrics are about the removal of stale flows.
type conntrackMetrics struct {
	duration *prometheus.HistogramVec
	deleted  *prometheus.CounterVec
}

func newConntrackMetrics() conntrackMetrics {
	return conntrackMetrics{
		duration: newHistogram("kubeproxy_conntrack_reconciler_sync_duration_seconds", "How long it took to look for stale flows and to remove them.", workBuckets(), labelFamily),
		deleted:  newCounter("kubeproxy_conntrack_reconciler_deleted_entries_total", "Stale flows that were removed from conntrack.", labelFamily),
	}
}

func (m *conntrackMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.duration, m.deleted}
}

func (m *conntrackMetrics) begin(f rules.Family) {
	m.duration.WithLabelValues(f.String())
	m.deleted.WithLabelValues(f.String())
}

// cleaned notes a search for stale flows that is over.
func (m *conntrackMetrics) cleaned(f rules.Family, took time.Duration, deleted int) {
	m.duration.WithLabelValues(f.String()).Observe(took.Seconds())
	m.deleted.WithLabelValues(f.String()).Add(float64(deleted))
}
