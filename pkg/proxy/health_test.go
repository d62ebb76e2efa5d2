package proxy

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"svcproxy/pkg/rules"
)

func dualStackHealth() *Health {
	h := NewHealth(time.Minute, NewMetrics("test"))
	h.serves(rules.IPv4)
	h.serves(rules.IPv6)
	return h
}

func TestHealthIsAboutTheOldestPendingChange(t *testing.T) {
	h, t0 := dualStackHealth(), time.Now()
	h.queued(t0)
	h.queued(t0.Add(50 * time.Second)) // a later change does not hide the older one
	if !h.status(t0.Add(59*time.Second), alive).Healthy || h.status(t0.Add(60*time.Second), alive).Healthy {
		t.Error("the limit is a minute after the first change")
	}
	h.synced(rules.IPv4, t0.Add(62*time.Second))
	h.synced(rules.IPv6, t0.Add(62*time.Second))
	if !h.status(t0.Add(time.Hour), ready).Healthy {
		t.Error("a quiet hour is unhealthy")
	}
}

func TestAFamilyThatFailsDoesNotHide(t *testing.T) {
	h, t0 := dualStackHealth(), time.Now().Add(-time.Hour)
	h.queued(t0)
	h.synced(rules.IPv4, t0)
	h.synced(rules.IPv6, t0)
	for range 3 { // IPv4 gets through each time
		h.queued(t0.Add(time.Second))
		h.synced(rules.IPv4, t0.Add(2*time.Second))
	}
	s := h.status(time.Now(), ready)
	if s.Healthy || !s.Status["IPv4"].Healthy || s.Status["IPv6"].Healthy {
		t.Errorf("%+v, want IPv6 alone unhealthy, and so all", s)
	}
	if !s.LastUpdated.Equal(t0.Add(2 * time.Second)) {
		t.Errorf("last updated %v, want IPv4's time", s.LastUpdated)
	}
	if h.Healthy() {
		t.Error("health checks of Services would answer that all is well")
	}
}

func TestAnswersOfHealth(t *testing.T) {
	h := dualStackHealth()
	expect := func(what, path string, code int, eligible *bool, healthy bool) {
		t.Helper()
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		var s healthStatus
		if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
			t.Fatalf("%s: %s: %v", what, w.Body, err)
		}
		same := (s.NodeEligible == nil) == (eligible == nil) && (eligible == nil || *eligible == *s.NodeEligible)
		if w.Code != code || !same || s.Healthy != healthy || s.LastUpdated.Equal(s.CurrentTime) != (code == http.StatusOK) {
			t.Errorf("%s: %s answers %d %s", what, path, w.Code, w.Body)
		}
	}
	yes, no := true, false
	expect("before the first sync", "/healthz", 503, &yes, false)
	expect("before the first sync", "/livez", 200, nil, true)
	h.synced(rules.IPv4, time.Now().Add(-time.Second))
	expect("one family is synced", "/healthz", 503, &yes, false)
	h.synced(rules.IPv6, time.Now().Add(-time.Second))
	expect("in step", "/healthz", 200, &yes, true)
	h.setNodeLeaving(true)
	expect("the node leaves", "/healthz", 503, &no, true)
	expect("the node leaves", "/livez", 200, nil, true)
	h.setNodeLeaving(false)
	h.queued(time.Now().Add(-time.Hour))
	expect("stuck", "/healthz", 503, &yes, false)
	expect("stuck", "/livez", 503, nil, false)
}
