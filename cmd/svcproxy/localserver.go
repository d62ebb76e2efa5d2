package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"

	"k8s.io/component-base/logs"
	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"

	"svcproxy/pkg/page"
	"svcproxy/pkg/proxy"
)

// localHandlers is what serves parts of --metrics-bind-address; nil: that part is not
// there.
type localHandlers struct {
	health, status http.Handler
	page           http.Handler // the status for browsers
	refused        func() []proxy.Quarantined
}

// localHandlers are those of a proxy.
func (o *options) localHandlers(p *proxy.Proxy) (localHandlers, error) {
	view, err := page.New(p, o.tracePage)
	return localHandlers{health: p.Health().LocalHandler(), status: p.StatusHandler(), page: view, refused: p.Quarantined}, err
}

// tracePage answers the form of the page as svcproxy trace does.
func (o *options) tracePage(ctx context.Context, from, to, protocol string) (string, error) {
	flags := traceFlags{from: cmp.Or(from, "node"), to: to, proto: protocol, output: "text"}
	var said strings.Builder
	err := flags.run(ctx, o, &said, io.Discard)
	return said.String(), err
}

// localHandler serves what is for the node itself, on --metrics-bind-address:
// health, the status, which Services the kernel refuses, the configuration and, if
// asked for, what profiles the program. All but health are on loopback addresses alone,
// whatever that address is.
func (o *options) localHandler(h localHandlers) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h.health)
	if h.status != nil {
		mux.Handle("GET "+statusPath, onLoopback(forLocalHost(h.status)))
	}
	if h.page != nil {
		mux.Handle("GET "+page.Root+"{$}", onLoopback(forLocalHost(h.page)))
		mux.Handle("GET "+page.Base, onLoopback(forLocalHost(h.page)))
	}
	if h.refused != nil {
		mux.Handle("GET "+quarantinePath, onLoopback(tellQuarantine(h.refused)))
	}
	mux.Handle("GET /configz", onLoopback(configz(o.settings.configuration)))
	if o.settings.EnableProfiling {
		debug := http.NewServeMux()
		addProfiling(debug)
		mux.Handle("/debug/", onLoopback(debug))
	}
	return mux
}

// onLoopback answers those alone who came to a loopback address: nobody but the
// node can. Metrics are often opened to the network; what shows the configuration and
// memory, and can slow the program down, is not meant then.
func onLoopback(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		if to == nil || !to.IP.IsLoopback() {
			http.Error(w, "served on a loopback address of the node alone", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// forLocalHost answers those alone who asked for a loopback address or localhost. A
// page of somebody else's, in a browser on the node, could have its own host name
// lead here (DNS rebinding), and read what is answered.
func forLocalHost(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(r.Host); err == nil {
			host = name
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "served to those who ask for localhost or a loopback address alone", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// configz answers with the configuration in force, as kube-proxy does.
func configz(c *configuration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text, err := json.Marshal(map[string]any{kubeproxy.GroupName: c})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(text)
	})
}

// addProfiling adds the paths that kube-proxy has with --profiling.
func addProfiling(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("PUT /debug/flags/v", setVerbosity)
}

// setVerbosity takes a number as --v does, for the running program.
func setVerbosity(w http.ResponseWriter, r *http.Request) {
	const longest = 16
	level, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longest))
	if err == nil {
		var said string
		if said, err = logs.GlogSetter(string(level)); err == nil {
			fmt.Fprint(w, said)
			return
		}
	}
	http.Error(w, err.Error(), http.StatusBadRequest)
}
