package proxy

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// changeCollector tells of changes as they are counted by the source, so that
// those which a sync that hangs does not get to see are told too.
type changeCollector struct {
	mu       sync.Mutex
	families []rules.Family
	source   *watch.Changes // nil: nothing is followed
	asked    time.Time      // when the loop last found a reason to sync; zero: never
}

type changeDescs struct {
	services, endpoints               *prometheus.Desc
	pendingServices, pendingEndpoints *prometheus.Desc
	lastQueued                        *prometheus.Desc
}

func newChangeDescs() changeDescs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("kubeproxy_sync_proxy_rules_"+name, help, labels, nil)
	}
	return changeDescs{
		services:         desc("service_changes_total", "Changes of Services."),
		pendingServices:  desc("service_changes_pending", "Changes of Services that came after the last sync began."),
		endpoints:        desc("endpoint_changes_total", "Changes of EndpointSlices."),
		pendingEndpoints: desc("endpoint_changes_pending", "Changes of EndpointSlices that came after the last sync began."),
		lastQueued:       desc("last_queued_timestamp_seconds", "When a sync was last asked for, in seconds since 1970.", labelFamily),
	}
}

func (c *changeCollector) begin(f rules.Family) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.families = append(c.families, f)
}

func (c *changeCollector) follow(source *watch.Changes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.source = source
}

// queued notes that the loop has a reason to sync.
func (c *changeCollector) queued(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = now
}

// Describe is part of prometheus.Collector.
func (c *changeCollector) Describe(out chan<- *prometheus.Desc) {
	d := newChangeDescs()
	for _, desc := range []*prometheus.Desc{d.services, d.endpoints, d.pendingServices, d.pendingEndpoints, d.lastQueued} {
		out <- desc
	}
}

// Collect is part of prometheus.Collector.
func (c *changeCollector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.source == nil {
		return
	}
	d, n := newChangeDescs(), c.source.Counts()
	tell := func(desc *prometheus.Desc, t prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, t, value, labels...)
	}
	tell(d.services, prometheus.CounterValue, float64(n.Services))
	tell(d.pendingServices, prometheus.GaugeValue, float64(n.PendingServices))
	tell(d.endpoints, prometheus.CounterValue, float64(n.EndpointSlices))
	tell(d.pendingEndpoints, prometheus.GaugeValue, float64(n.PendingEndpointSlices))
	last := c.asked
	if n.Last.After(last) {
		last = n.Last
	}
	if last.IsZero() {
		return
	}
	for _, f := range c.families {
		tell(d.lastQueued, prometheus.GaugeValue, float64(last.UnixNano())/1e9, f.String())
	}
}
