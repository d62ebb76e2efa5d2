package proxy

import (
	"net/http"

	"svcproxy/pkg/status"
)

// StatusHandler serves a status.Report as JSON, by the query of the URL: see
// docs/status.md. An answer that cannot be finished stays without its end, so that it
// is no JSON.
func (p *Proxy) StatusHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, err := status.ParseQuery(r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out, begun := status.NewWriter(w), false
		begin := func(r *status.Report) error {
			begun = true
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Cache-Control", "no-store")
			return out.Begin(r)
		}
		err = p.Report(r.Context(), &q, begin, out.Service)
		switch {
		case err == nil:
			_ = out.End() // the client is gone if this fails
		case !begun:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}
