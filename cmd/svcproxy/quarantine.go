package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"svcproxy/pkg/proxy"
	"svcproxy/pkg/rules"
)

// quarantined is a Service that the kernel refuses, as /quarantine tells it.
type quarantined struct {
	Family  string    `json:"family"`
	Service string    `json:"service"`
	Port    string    `json:"port"` // whose rule was refused: namespace/name:port
	Rule    string    `json:"rule,omitempty"`
	Reason  string    `json:"reason"`
	InForce string    `json:"inForce"` // what is served instead
	Since   time.Time `json:"since"`
	Next    time.Time `json:"nextTry"`
}

// quarantinePath is where the running proxy tells it, on --metrics-bind-address.
const quarantinePath = "/quarantine"

// tellQuarantine answers with the Services that the kernel refuses.
func tellQuarantine(list func() []proxy.Quarantined) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		out := []quarantined{}
		for _, q := range list() {
			out = append(out, quarantined{q.Family.String(), q.Namespace + "/" + q.Name, q.Port, q.Line, q.Reason, q.InForce, q.Since, q.Next})
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_ = json.NewEncoder(w).Encode(out)
	})
}

// askTimeout is how long the running proxy may take to answer: it is on this host.
const askTimeout = 500 * time.Millisecond

// askQuarantine asks the proxy that runs on this node. Nothing is known if nobody
// answers.
func askQuarantine(ctx context.Context, metricsAddress string) []quarantined {
	at, err := netip.ParseAddrPort(metricsAddress)
	if at = onNode(at); err != nil || !at.Addr().IsLoopback() {
		return nil // there it does not tell
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+quarantinePath, nil)
	if err != nil {
		return nil
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	var out []quarantined
	const longest = 10 << 20
	if answer.StatusCode != http.StatusOK || json.NewDecoder(http.MaxBytesReader(nil, answer.Body, longest)).Decode(&out) != nil {
		return nil
	}
	return out
}

// explainQuarantine says that the kernel refuses the Service's rules, if the running
// proxy says so.
func (t *tracer) explainQuarantine(ctx context.Context) {
	to := &t.report.To
	for _, q := range askQuarantine(ctx, t.options.settings.MetricsBindAddress) {
		if q.Service == to.Service && q.Family == rules.FamilyOf(to.Addr.Addr()).String() {
			t.report.because(codeQuarantined, fmt.Sprintf("the kernel refuses rules of %s, so it is in quarantine since %s: %s; in force: %s.", q.Port, q.Since.Format(time.RFC3339), q.Reason, q.InForce),
				"kubectl -n kube-system logs -l app=svcproxy --prefix --tail=-1 | grep quarantine")
			t.report.but = true
		}
	}
}
