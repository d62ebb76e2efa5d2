package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/klog/v2"

	"svcproxy/pkg/proxy"
)

// ask sends a request to what serves --metrics-bind-address, on loopback.
func ask(o *options, method, path, body string) *httptest.ResponseRecorder {
	return askAt(o, "127.0.0.1", method, path, body)
}

// askAt sends it to an address of the node.
func askAt(o *options, addr, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(addr), Port: 10249}))
	o.localHandler(localHandlers{health: proxy.NewHealth(0, proxy.NewMetrics("")).LocalHandler(), refused: refusedOne}).ServeHTTP(w, r)
	return w
}

// Metrics may be open to the network; what tells of the program's inside is not.
func TestInsidesAreServedOnLoopbackAlone(t *testing.T) {
	o := configured(t, "--profiling", "--metrics-bind-address=0.0.0.0:10249")
	for _, r := range []struct {
		method, path string
	}{{http.MethodGet, "/configz"}, {http.MethodGet, quarantinePath}, {http.MethodGet, "/debug/pprof/"}, {http.MethodGet, "/debug/pprof/heap"}, {http.MethodPut, "/debug/flags/v"}} {
		for _, addr := range []string{"10.250.0.2", "fd00::1", "::ffff:10.250.0.2"} {
			if w := askAt(o, addr, r.method, r.path, "2"); w.Code != http.StatusForbidden {
				t.Errorf("%s %s at %s: %d", r.method, r.path, addr, w.Code)
			}
		}
		for _, addr := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
			if w := askAt(o, addr, r.method, r.path, "0"); w.Code != http.StatusOK {
				t.Errorf("%s %s at %s: %d", r.method, r.path, addr, w.Code)
			}
		}
	}
	if w := askAt(o, "10.250.0.2", http.MethodGet, "/proxyMode", ""); w.Code != http.StatusOK {
		t.Errorf("/proxyMode at the node's address: %d", w.Code)
	}
}

// kube-proxy's /configz is one object under the name of the configuration's group.
func TestConfigz(t *testing.T) {
	o := configured(t, "--config", configFile(t, "clusterCIDR: 10.0.0.0/8\niptables: {syncPeriod: 1m}\n"), "-v=3")
	w := ask(o, http.MethodGet, "/configz", "")
	var body map[string]json.RawMessage
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != http.StatusOK || len(body) != 1 {
		t.Fatalf("%d, %v: %s", w.Code, err, w.Body)
	}
	got, err := decodeConfiguration(body["kubeproxy.config.k8s.io"])
	if err != nil {
		t.Fatal(err)
	}
	if d := differing(got, o.settings.configuration); len(d) > 0 || got.Logging.Verbosity != 3 {
		t.Errorf("not what is in force: %v, %s", d, w.Body)
	}
	if h := w.Header(); h.Get("Content-Type") != "application/json" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("header %v", h)
	}
}

func TestProfilingIsServedIfAskedFor(t *testing.T) {
	off, on := configured(t), configured(t, "--profiling")
	for path, code := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/heap?debug=1": 200, "/debug/pprof/symbol": 200, "/debug/pprof": 307, "/debug/pprof/nothing": 404,
	} {
		if got := ask(on, http.MethodGet, path, "").Code; got != code {
			t.Errorf("%s with profiling: %d, want %d", path, got, code)
		}
		if got := ask(off, http.MethodGet, path, "").Code; got != http.StatusNotFound {
			t.Errorf("%s without profiling: %d", path, got)
		}
		if got := ask(on, http.MethodGet, "/proxyMode", "").Body.String(); got != "iptables" {
			t.Errorf("/proxyMode says %s", got)
		}
	}
	if got := ask(off, http.MethodPut, "/debug/flags/v", "5").Code; got != http.StatusNotFound {
		t.Errorf("the verbosity can be set without profiling: %d", got)
	}
}

func TestVerbosityIsSet(t *testing.T) {
	o := configured(t, "--profiling")
	defer ask(o, http.MethodPut, "/debug/flags/v", "0")
	if w := ask(o, http.MethodPut, "/debug/flags/v", "7"); w.Code != http.StatusOK || !klog.V(7).Enabled() {
		t.Errorf("%d %s, and level 7 is on: %v", w.Code, w.Body, klog.V(7).Enabled())
	}
	for _, bad := range []string{"", "loud", "-1", strings.Repeat("1", 100)} {
		if w := ask(o, http.MethodPut, "/debug/flags/v", bad); w.Code != http.StatusBadRequest {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
}
