package proxy

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// PacketReader reads how many packets met some rule.
type PacketReader func(ctx context.Context) (uint64, error)

// packetCollector tells how many packets were dropped because conntrack calls them
// INVALID. The rule counts them itself: kube-proxy has an nfacct object for it. The
// kernel is asked for it when Prometheus asks.
type packetCollector struct {
	mu      sync.Mutex
	dropped []*packetCount // of each family whose rules drop any
}

// packetCount is the count of one rule. It does not get less when the rule is
// written anew and the kernel begins again at 0.
type packetCount struct {
	read  PacketReader
	asked time.Time
	known bool

	before uint64 // what rules that were replaced had counted
	now    uint64
}

// What a scrape may cost: a reading takes a few milliseconds, or waits for a
// legacy table that is being written.
const (
	packetsEvery   = 10 * time.Second
	packetsTimeout = 2 * time.Second
)

func (c *packetCollector) follow(read PacketReader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropped = append(c.dropped, &packetCount{read: read})
}

func droppedDesc() *prometheus.Desc {
	return prometheus.NewDesc("kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
		"Forwarded packets that were dropped because conntrack calls them INVALID.", nil, nil)
}

// Describe is part of prometheus.Collector.
func (c *packetCollector) Describe(out chan<- *prometheus.Desc) { out <- droppedDesc() }

// Collect is part of prometheus.Collector. It tells nothing before the first
// reading that succeeded.
func (c *packetCollector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), packetsTimeout)
	defer cancel()
	total, known := uint64(0), false
	for _, p := range c.dropped {
		p.refresh(ctx, time.Now())
		total, known = total+p.before+p.now, known || p.known
	}
	if known {
		out <- prometheus.MustNewConstMetric(droppedDesc(), prometheus.CounterValue, float64(total))
	}
}

// refresh keeps the count if the rule cannot be read.
func (p *packetCount) refresh(ctx context.Context, now time.Time) {
	if !p.asked.IsZero() && now.Sub(p.asked) < packetsEvery {
		return
	}
	p.asked = now
	n, err := p.read(ctx)
	if err != nil {
		return
	}
	if n < p.now {
		p.before += p.now
	}
	p.now, p.known = n, true
}
