package proxy

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"svcproxy/pkg/rules"
)

// syncMetrics are about the syncs themselves.
type syncMetrics struct {
	duration, full, partial *prometheus.HistogramVec
	programming             *prometheus.HistogramVec
	last                    *prometheus.GaugeVec
	failures, partFailures  *prometheus.CounterVec
	transactions, chains    *prometheus.CounterVec
	rulesWritten            *prometheus.GaugeVec
}

func newSyncMetrics() syncMetrics {
	return syncMetrics{
		duration: newHistogram("kubeproxy_sync_proxy_rules_duration_seconds", "How long a sync of one family took, whether it succeeded or not.", workBuckets(), labelFamily),
		full:     newHistogram("kubeproxy_sync_full_proxy_rules_duration_seconds", "How long a sync took that read the kernel's rules first.", workBuckets(), labelFamily),
		partial:  newHistogram("kubeproxy_sync_partial_proxy_rules_duration_seconds", "How long a sync took that relied on what the last one wrote.", workBuckets(), labelFamily),
		programming: newHistogram("kubeproxy_network_programming_duration_seconds",
			"How long it took from the change of a pod or Service to the rules, by the clocks of the control plane and of this node.", programmingBuckets(), labelFamily),
		last:         newGauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When a sync last succeeded, in seconds since 1970.", labelFamily),
		failures:     newCounter("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "Plans that iptables did not carry out.", labelFamily),
		partFailures: newCounter("kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total", "Syncs that failed after relying on what the last one wrote.", labelFamily),
		transactions: newCounter("svcproxy_transactions_total", "Transactions that iptables-restore took.", labelFamily, labelTable),
		chains:       newCounter("svcproxy_chains_written_total", "Chains in these transactions, those deleted among them.", labelFamily, labelTable),
		rulesWritten: newGauge("kubeproxy_sync_proxy_rules_iptables_last", "Rules that the last sync wrote.", labelTable, labelFamily),
	}
}

// programmingBuckets are kube-proxy's: 0, 0.25 s, 0.5 s, then steps of 1 s up to a
// minute, of 5 s up to two, and of half a minute up to five.
func programmingBuckets() []float64 {
	return slices.Concat([]float64{0}, prometheus.LinearBuckets(0.25, 0.25, 2), prometheus.LinearBuckets(1, 1, 59),
		prometheus.LinearBuckets(60, 5, 12), prometheus.LinearBuckets(120, 30, 7))
}

func (m *syncMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.duration, m.full, m.partial, m.programming, m.last, m.failures, m.partFailures, m.transactions, m.chains, m.rulesWritten}
}

// begin leaves out the time of the last success: there is none yet, and 0 would be
// one long ago.
func (m *syncMetrics) begin(f rules.Family) {
	for _, v := range []*prometheus.HistogramVec{m.duration, m.full, m.partial, m.programming} {
		v.WithLabelValues(f.String())
	}
	m.failures.WithLabelValues(f.String())
	m.partFailures.WithLabelValues(f.String())
	for _, t := range rules.Tables() {
		m.transactions.WithLabelValues(f.String(), string(t))
		m.chains.WithLabelValues(f.String(), string(t))
		m.rulesWritten.WithLabelValues(string(t), f.String())
	}
}

// synced notes a sync of a family that is over. full says that it read the kernel.
func (m *Metrics) synced(f rules.Family, full bool, took time.Duration, err error) {
	m.syncs.duration.WithLabelValues(f.String()).Observe(took.Seconds())
	if full {
		m.syncs.full.WithLabelValues(f.String()).Observe(took.Seconds())
	} else {
		m.syncs.partial.WithLabelValues(f.String()).Observe(took.Seconds())
	}
	switch {
	case err == nil:
		m.syncs.last.WithLabelValues(f.String()).SetToCurrentTime()
	case !full:
		m.syncs.partFailures.WithLabelValues(f.String()).Inc()
	}
}

// programmed notes that the rules have what was caused at the given times. A
// clock of the control plane that is ahead of ours makes it no less than no time.
func (m *Metrics) programmed(f rules.Family, caused []time.Time, now time.Time) {
	for _, at := range caused {
		m.syncs.programming.WithLabelValues(f.String()).Observe(max(0, now.Sub(at).Seconds()))
	}
}
