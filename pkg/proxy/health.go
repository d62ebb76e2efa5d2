package proxy

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// Health knows whether changes reach the kernel. It is unhealthy only while a
// change has been waiting for longer than a timeout: a quiet cluster is healthy
// however long ago the last sync was (kube-proxy's definition).
type Health struct {
	timeout time.Duration

	mu      sync.Mutex
	pending time.Time // the oldest change that is not in the kernel; zero: none
	updated time.Time // the last sync that succeeded; zero: none yet
}

// NewHealth returns a Health that waits for its first sync.
func NewHealth(timeout time.Duration) *Health { return &Health{timeout: timeout} }

// Queued notes that a change waits to be synced.
func (h *Health) Queued(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending.IsZero() {
		h.pending = now
	}
}

// Synced notes that the kernel has all changes.
func (h *Health) Synced(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending, h.updated = time.Time{}, now
}

// status is the body of an answer, with kube-proxy's names.
type status struct {
	LastUpdated time.Time `json:"lastUpdated"`
	CurrentTime time.Time `json:"currentTime"`
	Healthy     bool      `json:"healthy"`
}

func (h *Health) status(now time.Time) status {
	h.mu.Lock()
	defer h.mu.Unlock()
	waits := !h.pending.IsZero() && now.Sub(h.pending) > h.timeout
	return status{LastUpdated: h.updated, CurrentTime: now, Healthy: !waits && !h.updated.IsZero()}
}

// Healthy reports whether the kernel has had a first sync and is in step since.
func (h *Health) Healthy() bool { return h.status(time.Now()).Healthy }

// live reports whether a restart would not help: like healthy, but a proxy that
// waits for its first sync is alive.
func (h *Health) live(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pending.IsZero() || now.Sub(h.pending) <= h.timeout
}

// Handler serves /healthz, 200 once synced and in step, and /livez, 200 unless
// stuck; 503 otherwise.
func (h *Health) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", h.healthz)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now()
		s := h.status(now)
		s.Healthy = h.live(now)
		answer(w, s, s.Healthy)
	})
	return mux
}

func (h *Health) healthz(w http.ResponseWriter, _ *http.Request) {
	s := h.status(time.Now())
	answer(w, s, s.Healthy)
}

// LocalHandler serves what is for the node itself: /healthz, and /proxyMode as
// kube-proxy's iptables mode answers it.
func (h *Health) LocalHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", h.healthz)
	mux.HandleFunc("GET /proxyMode", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write([]byte("iptables"))
	})
	return mux
}

// answer sends a body as JSON: 200 if all is well, else 503.
func answer(w http.ResponseWriter, body any, ok bool) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// The client is gone if this fails; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(body)
}
