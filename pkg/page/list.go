package page

import (
	"net/http"
	"net/url"
	"strings"

	"svcproxy/pkg/status"
)

// perPage is how many Services the list shows at once.
const perPage = 100

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	q, err := listQuery(r.URL.Query())
	if err != nil {
		s.problem(w, http.StatusBadRequest, err)
		return
	}
	report, took, err := s.read(r.Context(), q)
	if err != nil {
		s.problem(w, http.StatusInternalServerError, err)
		return
	}
	f := s.frame("Services", &report.Node)
	f.refresh = refresh(took)
	s.render(w, http.StatusOK, f,
		listTitle(&report.Node),
		nodeSection(&report.Node),
		listFilter(q),
		listServices(q, report),
		s.traceSection(""),
	)
}

// listQuery reads the parts of a query that the list has controls for.
func listQuery(v url.Values) (*status.Query, error) {
	v = url.Values{"search": {strings.TrimSpace(v.Get("search"))}, "trouble": v["trouble"], "sort": v["sort"], "offset": v["offset"]}
	q, err := status.ParseQuery(v)
	q.Limit, q.Counters = perPage, true
	return &q, err
}

// pageLink is the address of the part of the list that begins at an offset.
func pageLink(q *status.Query, offset int) string {
	to := status.Query{Search: q.Search, Trouble: q.Trouble, Sort: q.Sort, Offset: max(0, offset)}
	if v := to.Values(); len(v) > 0 {
		return Root + "?" + v.Encode()
	}
	return Root
}

// serviceLink is the address of a Service's page. Of addresses HTML is only escaped:
// they hold nothing of others but what is made a part of a path or a query here.
func serviceLink(s *status.Service) string {
	return Base + "service/" + url.PathEscape(s.Namespace) + "/" + url.PathEscape(s.Name)
}
