package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"svcproxy/pkg/rules"
)

// stateMetrics are about what is there: objects, and the rules made of them.
type stateMetrics struct {
	services, problems      *prometheus.GaugeVec
	endpoints, rules        *prometheus.GaugeVec
	noLocal                 *prometheus.GaugeVec
	drift                   *prometheus.CounterVec
	quarantined, nodeLeaves *prometheus.GaugeVec
}

func newStateMetrics() stateMetrics {
	return stateMetrics{
		services:    newGauge("svcproxy_services", "Services that are to be served."),
		problems:    newGauge("svcproxy_snapshot_problems", "Parts of objects that cannot be used as they are; each is named in the log."),
		endpoints:   newGauge("svcproxy_endpoints", "Endpoints of Services that are served, each as often as it serves a port.", labelFamily),
		rules:       newGauge("kubeproxy_sync_proxy_rules_iptables_total", "Rules in the chains of svcproxy.", labelTable, labelFamily),
		noLocal:     newGauge("kubeproxy_sync_proxy_rules_no_local_endpoints_total", "Service ports with traffic policy Local, and with endpoints, but none on this node.", "traffic_policy", labelFamily),
		drift:       newCounter("svcproxy_drift_total", "Differences found between the kernel's rules and those written.", labelFamily, labelTable, "kind"),
		quarantined: newGauge("svcproxy_quarantined_services", "Services whose rules the kernel refuses; the log and their Events say what is served instead.", labelFamily),
		nodeLeaves:  newGauge("svcproxy_node_leaving", "1 if the Node is deleted or about to be, which makes /healthz fail."),
	}
}

func (m *stateMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.services, m.problems, m.endpoints, m.rules, m.noLocal, m.drift, m.quarantined, m.nodeLeaves}
}

// begin has drift of every kind counted from 0, so that the first one is an increase.
func (m *stateMetrics) begin(f rules.Family) {
	m.quarantined.WithLabelValues(f.String())
	for _, t := range rules.Tables() {
		for _, kind := range rules.DriftKinds() {
			m.drift.WithLabelValues(f.String(), string(t), string(kind))
		}
	}
}

// snapshot notes what is to be served.
func (m *Metrics) snapshot(snap *rules.Snapshot) {
	m.state.services.WithLabelValues().Set(float64(len(snap.Services)))
	leaves := 0.0
	if snap.Node.Leaving {
		leaves = 1
	}
	m.state.nodeLeaves.WithLabelValues().Set(leaves)
}

// problems notes how many parts of objects are left out.
func (m *Metrics) problems(n int) { m.state.problems.WithLabelValues().Set(float64(n)) }

// inForce notes what the kernel's rules of a family hold.
func (m *Metrics) inForce(f rules.Family, c rules.Counts) {
	m.state.endpoints.WithLabelValues(f.String()).Set(float64(c.Endpoints))
	m.state.rules.WithLabelValues(string(rules.Filter), f.String()).Set(float64(c.FilterRules))
	m.state.rules.WithLabelValues(string(rules.Nat), f.String()).Set(float64(c.NatRules))
	m.state.noLocal.WithLabelValues("internal", f.String()).Set(float64(c.NoLocalInternal))
	m.state.noLocal.WithLabelValues("external", f.String()).Set(float64(c.NoLocalExternal))
}

// Drift notes n differences of a kind found in a table between what was written
// and what is there.
func (m *Metrics) Drift(f rules.Family, table rules.TableName, kind rules.DriftKind, n int) {
	m.state.drift.WithLabelValues(f.String(), string(table), string(kind)).Add(float64(n))
}

// quarantined notes how many Services the kernel refuses in a family.
func (m *Metrics) quarantined(f rules.Family, services int) {
	m.state.quarantined.WithLabelValues(f.String()).Set(float64(services))
}
