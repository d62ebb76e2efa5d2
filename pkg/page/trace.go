package page

import (
	"context"
	"errors"
	"net/http"
	"strings"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"svcproxy/pkg/status"
)

// tracePath is where packets are traced.
const tracePath = Base + "trace"

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
	form, answer := formOf(r), ""
	if form.to != "" {
		answer, err = s.traceOne(r.Context(), form)
	}
	f := s.frame("Trace", &report.Node)
	s.render(w, http.StatusOK, f,
		f.up(),
		h.H1(g.Text("Trace a packet")),
		form.html(),
		traceAnswer(answer, err),
	)
}

// traceOne waits until no other trace is made.
func (s *server) traceOne(ctx context.Context, f traceForm) (string, error) {
	select {
	case s.tracing <- struct{}{}:
		defer func() { <-s.tracing }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	return s.trace(ctx, f.from, f.to, f.protocol)
}

// traceForm is what is typed into the form.
type traceForm struct{ from, to, protocol string }

// maxTyped bounds a field of the form.
const maxTyped = 300

func formOf(r *http.Request) traceForm {
	get := func(key string) string {
		text := strings.TrimSpace(r.URL.Query().Get(key))
		return text[:min(len(text), maxTyped)]
	}
	return traceForm{get("from"), get("to"), get("proto")}
}
