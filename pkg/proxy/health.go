package proxy

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"svcproxy/pkg/rules"
)

// Health knows whether changes reach the kernel, of each family by itself. It is
// unhealthy only while a change has been waiting for longer than a timeout: a
// quiet cluster is healthy however long ago the last sync was (kube-proxy's
// definition).
type Health struct {
	timeout time.Duration
	metrics *Metrics

	mu          sync.Mutex
	families    map[rules.Family]*familyHealth
	nodeLeaving bool
}

// familyHealth is about the rules of one family.
type familyHealth struct {
	pending time.Time // the oldest change that is not in the kernel; zero: none
	updated time.Time // the last sync that succeeded; zero: none yet
}

// NewHealth returns the Health of no families yet. A change must reach the kernel
// within timeout; m counts the answers.
func NewHealth(timeout time.Duration, m *Metrics) *Health {
	return &Health{timeout: timeout, metrics: m, families: map[rules.Family]*familyHealth{}}
}

// serves adds a family, which waits for its first sync.
func (h *Health) serves(f rules.Family) { h.families[f] = &familyHealth{} }

// queued notes that a change waits to be synced, in every family.
func (h *Health) queued(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.families {
		if f.pending.IsZero() {
			f.pending = now
		}
	}
}

// synced notes that the kernel has all changes of a family.
func (h *Health) synced(f rules.Family, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.families[f].pending, h.families[f].updated = time.Time{}, now
}

// setNodeLeaving notes whether the Node is deleted or about to be.
func (h *Health) setNodeLeaving(leaving bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nodeLeaving = leaving
}

// family returns what is known of a family that is served.
func (h *Health) family(f rules.Family) familyHealth {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.families[f]
}

// healthStatus is the body of an answer, with kube-proxy's names.
type healthStatus struct {
	// LastUpdated is CurrentTime if all is well: kube-proxy keeps it so for those
	// who took an old time for a failure. When rules changed, Status says.
	LastUpdated  time.Time               `json:"lastUpdated"`
	CurrentTime  time.Time               `json:"currentTime"`
	NodeEligible *bool                   `json:"nodeEligible,omitempty"` // of /healthz alone
	Healthy      bool                    `json:"healthy"`                // in all families
	Status       map[string]familyStatus `json:"status,omitempty"`
}

type familyStatus struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// status tells how the families do; well says what of one that is in step.
func (h *Health) status(now time.Time, well func(*familyHealth) bool) healthStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := healthStatus{CurrentTime: now, Healthy: true, Status: map[string]familyStatus{}}
	for family, f := range h.families {
		late := !f.pending.IsZero() && now.Sub(f.pending) >= h.timeout
		ok := !late && well(f)
		s.Healthy = s.Healthy && ok
		s.Status[family.String()] = familyStatus{f.updated, ok}
		if f.updated.After(s.LastUpdated) {
			s.LastUpdated = f.updated
		}
	}
	return s
}

// ready: the rules of the family are there. It is false until the first sync.
func ready(f *familyHealth) bool { return !f.updated.IsZero() }

// alive: a restart would not help, though a first sync may still be to come.
func alive(*familyHealth) bool { return true }

// Healthy reports whether the kernel has had a first sync of each family and is
// in step since.
func (h *Health) Healthy() bool { return h.status(time.Now(), ready).Healthy }

// Handler serves /healthz, 200 once all families are synced and in step, unless
// the node is leaving (KEP-3836), and /livez, 200 unless one is stuck; 503
// otherwise.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", counted(h.metrics.health.healthz, h.healthz))
	mux.HandleFunc("GET /livez", counted(h.metrics.health.livez, h.livez))
	return mux
}

func (h *Health) healthz(w http.ResponseWriter, _ *http.Request) {
	s := h.status(time.Now(), ready)
	h.mu.Lock()
	eligible := !h.nodeLeaving
	h.mu.Unlock()
	s.NodeEligible = &eligible
	s.answer(w, s.Healthy && eligible)
}

func (h *Health) livez(w http.ResponseWriter, _ *http.Request) {
	s := h.status(time.Now(), alive)
	s.answer(w, s.Healthy)
}

func (s *healthStatus) answer(w http.ResponseWriter, ok bool) {
	if ok {
		s.LastUpdated = s.CurrentTime
	}
	answer(w, s, ok)
}

// LocalHandler serves what is for the node itself: /metrics and /metrics/slis, and
// /healthz and /proxyMode as kube-proxy's iptables mode answers them: the first
// says only that this server is there.
func (h *Health) LocalHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h.metrics.Handler())
	mux.Handle("GET /metrics/slis", h.metrics.SLIHandler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		h.metrics.health.pinged()
		text(w, "ok")
	})
	mux.HandleFunc("GET /proxyMode", func(w http.ResponseWriter, _ *http.Request) { text(w, "iptables") })
	return mux
}

// text sends a word.
func text(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(body)) // see answer
}

// answer sends a body as JSON: 200 if all is well, else 503.
func answer(w http.ResponseWriter, body any, ok bool) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	text, _ := json.Marshal(body) // of values that JSON has
	// The client is gone if this fails; there is nobody left to tell.
	_, _ = w.Write(text)
}
