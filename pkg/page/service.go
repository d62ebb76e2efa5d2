package page

import (
	"fmt"
	"net/http"
	"strconv"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"svcproxy/pkg/status"
)

func (s *server) service(w http.ResponseWriter, r *http.Request) {
	name := status.Name{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	report, took, err := s.read(r.Context(), &status.Query{Names: []status.Name{name}, Counters: true})
	if err != nil {
		s.problem(w, http.StatusInternalServerError, err)
		return
	}
	if len(report.Services) == 0 {
		s.missing(w, report)
		return
	}
	svc, traced := &report.Services[0], ""
	if len(svc.Ports) > 0 {
		traced = svc.ID() + ":" + strconv.Itoa(int(svc.Ports[0].Port))
	}
	f := s.frame(svc.ID(), &report.Node)
	f.refresh = refresh(took)
	s.render(w, http.StatusOK, f,
		f.up(),
		h.H1(g.Text(svc.ID())),
		serviceDetails(svc, &report.Node),
		s.traceSection(traced),
	)
}

// missing says that there is no such Service, and which there are.
func (s *server) missing(w http.ResponseWriter, report *status.Report) {
	err := fmt.Errorf("there is no such Service on this node")
	if u := report.Selection.Unknown; len(u) > 0 {
		err = fmt.Errorf("there is no Service %s on this node", u[0].Name)
		for _, n := range u[0].Nearest {
			err = fmt.Errorf("%w; there is %s", err, n)
		}
	}
	s.problem(w, http.StatusNotFound, err)
}
