// Package page is the status for a browser: HTML made here, its pictures in it, that
// needs nothing from elsewhere and no JavaScript.
package page

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"strings"
	"time"

	"svcproxy/pkg/status"
)

//go:embed assets
var assets embed.FS

// Source answers queries for the status: see proxy.Proxy.Report.
type Source interface {
	Report(ctx context.Context, q *status.Query, begin func(*status.Report) error, each func(*status.Service) error) error
}

// Tracer says in words what becomes of a packet. from, to and protocol are what
// somebody typed; an error is shown to them.
type Tracer func(ctx context.Context, from, to, protocol string) (string, error)

// Root is where the page is, and Base what the paths of all its parts begin with.
const (
	Root = "/"
	Base = "/page/"
)

// server serves the page.
type server struct {
	source    Source
	trace     Tracer // nil: there is no such form
	tracing   chan struct{}
	templates *template.Template
}

// New returns what serves Root and all below Base. trace may be nil.
func New(source Source, trace Tracer) (http.Handler, error) {
	templates, err := template.New("").ParseFS(assets, "assets/*.html")
	if err != nil {
		return nil, fmt.Errorf("templates of the page: %w", err)
	}
	s := &server{source: source, trace: trace, tracing: make(chan struct{}, 1), templates: templates}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Root+"{$}", s.list)
	mux.HandleFunc("GET "+Base+"service/{namespace}/{name}", s.service)
	if trace != nil {
		mux.HandleFunc("GET "+Base+"trace", s.tracePage)
	}
	for name, kind := range map[string]string{"style.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
		text, err := assets.ReadFile("assets/" + name)
		if err != nil {
			return nil, fmt.Errorf("parts of the page: %w", err)
		}
		mux.Handle("GET "+Base+name, asset(kind, text))
	}
	return guarded(mux), nil
}

// policy lets the page load what is its own, and nobody put it into a frame.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for key, value := range map[string]string{
			"Content-Security-Policy":      policy,
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cache-Control":                "no-store",
		} {
			w.Header().Set(key, value)
		}
		h.ServeHTTP(w, r)
	})
}

func asset(kind string, text []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(text)
	})
}

// render sends a template's text, once it is whole.
func (s *server) render(w http.ResponseWriter, code int, name string, value any) {
	var text bytes.Buffer
	if err := s.templates.ExecuteTemplate(&text, name, value); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = text.WriteTo(w) // the client is gone if this fails
}

// frame is what every page has.
type frame struct {
	Title   string
	Node    node
	Refresh int    // seconds; 0: the page does not change
	Trace   bool   // there is a form for traces
	TraceTo string // what stands in it
}

// A page that somebody looks at is made anew every few seconds, and less often where
// that would take more than a small part of a core: the legacy backend hands out no
// counters but with all of a table, which takes a while if it is large.
const (
	leastRefresh = 5 * time.Second
	idlePart     = 150 // how many times as long as it took to make the page it is left alone
)

// refresh is how many seconds a page is shown that took so long to make.
func refresh(took time.Duration) int {
	return int(math.Ceil(max(leastRefresh, idlePart*took).Seconds()))
}

// problem shows an error in the place of a page.
func (s *server) problem(w http.ResponseWriter, code int, err error) {
	s.render(w, code, "problem.html", struct {
		frame
		Error string
	}{frame{Title: http.StatusText(code), Trace: s.trace != nil}, err.Error()})
}

// read returns the report for a query, and how long it took.
func (s *server) read(ctx context.Context, q *status.Query) (*status.Report, time.Duration, error) {
	began := time.Now()
	var out *status.Report
	err := s.source.Report(ctx, q, func(r *status.Report) error {
		out = r
		out.Services = nil
		return nil
	}, func(svc *status.Service) error {
		out.Services = append(out.Services, *svc)
		return nil
	})
	return out, time.Since(began), err
}

// tracePage traces the packet that the form asks for. Reading the rules of a large
// node is work: no page of others may have it done, and it is done for one at a time.
func (s *server) tracePage(w http.ResponseWriter, r *http.Request) {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		s.problem(w, http.StatusForbidden, errors.New("a trace is asked for by the form on this page alone"))
		return
	}
	report, _, err := s.read(r.Context(), &status.Query{Limit: 1})
	if err != nil {
		s.problem(w, http.StatusInternalServerError, err)
		return
	}
	p := struct {
		frame
		Form   traceForm
		Answer string
		Error  string
	}{frame: frame{Title: "Trace", Node: nodeOf(report), Trace: true}, Form: formOf(r)}
	if p.Form.To != "" {
		if p.Answer, err = s.traceOne(r.Context(), p.Form); err != nil {
			p.Error = err.Error()
		}
	}
	s.render(w, http.StatusOK, "trace.html", p)
}

// traceOne waits until no other trace is made.
func (s *server) traceOne(ctx context.Context, f traceForm) (string, error) {
	select {
	case s.tracing <- struct{}{}:
		defer func() { <-s.tracing }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	return s.trace(ctx, f.From, f.To, f.Protocol)
}

// traceForm is what is typed into the form.
type traceForm struct{ From, To, Protocol string }

// maxTyped bounds a field of the form.
const maxTyped = 300

func formOf(r *http.Request) traceForm {
	get := func(key string) string {
		text := strings.TrimSpace(r.URL.Query().Get(key))
		return text[:min(len(text), maxTyped)]
	}
	return traceForm{get("from"), get("to"), get("proto")}
}
