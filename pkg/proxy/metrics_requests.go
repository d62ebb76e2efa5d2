package proxy

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// requestMetrics are about requests to the API server, with the names of
// client-go's metrics. Those need registries that the whole process shares.
type requestMetrics struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newRequestMetrics() requestMetrics {
	return requestMetrics{
		total: newCounter("rest_client_requests_total", "Requests to the API server.", "code", "method", "host"),
		duration: newHistogram("rest_client_request_duration_seconds", "How long it took until the API server began to answer.",
			[]float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60}, "verb", "host"),
	}
}

func (m *requestMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.total, m.duration}
}

// Transport returns a round tripper that counts what goes through next. It is
// what rest.Config.Wrap takes.
func (m *Metrics) Transport(next http.RoundTripper) http.RoundTripper {
	return &countingTransport{&m.requests, next}
}

type countingTransport struct {
	metrics *requestMetrics
	next    http.RoundTripper
}

// RoundTrip is part of http.RoundTripper.
func (t *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	start := time.Now()
	resp, err := t.next.RoundTrip(r)
	code := "<error>" // as client-go calls a request without answer
	if err == nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	t.metrics.total.WithLabelValues(code, r.Method, r.URL.Host).Inc()
	t.metrics.duration.WithLabelValues(r.Method, r.URL.Host).Observe(time.Since(start).Seconds())
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport inside.
func (t *countingTransport) WrappedRoundTripper() http.RoundTripper { return t.next }
