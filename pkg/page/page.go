// Package page is the status for a browser: HTML made here, its pictures in it, that
// needs nothing from elsewhere and no JavaScript.
package page

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"math"
	"net/http"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

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
	source  Source
	trace   Tracer // nil: there is no such form
	tracing chan struct{}
}

// New returns what serves Root and all below Base. trace may be nil.
func New(source Source, trace Tracer) (http.Handler, error) {
	s := &server{source: source, trace: trace, tracing: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Root+"{$}", s.list)
	mux.HandleFunc("GET "+Base+"service/{namespace}/{name}", s.service)
	if trace != nil {
		mux.HandleFunc("GET "+tracePath, s.tracePage)
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

func guarded(next http.Handler) http.Handler {
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
		next.ServeHTTP(w, r)
	})
}

func asset(kind string, text []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(text)
	})
}

// render sends a page, once it is whole: content in its frame.
func (s *server) render(w http.ResponseWriter, code int, f frame, content ...g.Node) {
	var text bytes.Buffer
	if err := f.document(content).Render(&text); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = text.WriteTo(w) // the client is gone if this fails
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

// frame returns what a page about the node has around it.
func (s *server) frame(title string, n *status.Node) frame {
	return frame{title: title, node: n.Name, trace: s.trace != nil}
}

// problem shows an error in the place of a page.
func (s *server) problem(w http.ResponseWriter, code int, err error) {
	title := http.StatusText(code)
	s.render(w, code, s.frame(title, &status.Node{}),
		h.H1(g.Text(title)),
		h.P(h.Class("remark bad"), g.Text(err.Error())),
		h.P(h.A(h.Href(Root), g.Text("All Services"))),
	)
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
