package page

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"svcproxy/pkg/status"
)

// servicePage is one Service.
type servicePage struct {
	frame
	Service string
	Facts   []fact
	Refused []refused
	Ports   []port
}

// fact is a word and what it is about.
type fact struct{ Name, Value string }

// port is one port, with a picture for each family.
type port struct {
	Title     string
	Notes     []status.Note
	Pictures  []*Picture
	Endpoints []endpoint
}

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
	svc, now := &report.Services[0], report.Node.Now
	p := servicePage{
		frame:   frame{Title: svc.ID(), Node: nodeOf(report), Refresh: refresh(took), Trace: s.trace != nil},
		Service: svc.ID(), Facts: facts(svc, now),
	}
	for i := range svc.Quarantine {
		p.Refused = append(p.Refused, refusedOf(&svc.Quarantine[i], now))
	}
	for i := range svc.Ports {
		p.Ports = append(p.Ports, portOf(svc, i, now))
	}
	if len(svc.Ports) > 0 {
		p.TraceTo = svc.ID() + ":" + strconv.Itoa(int(svc.Ports[0].Port))
	}
	s.render(w, http.StatusOK, "service.html", p)
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

func facts(s *status.Service, now time.Time) []fact {
	changed := s.Changed.Words(now)
	if changed == "" {
		changed = "not since svcproxy started"
	}
	out := []fact{{"Last change in the kernel", changed}, {"Traffic inside the cluster", "policy " + s.Internal}}
	if s.External != "" {
		out = append(out, fact{"Traffic from outside", "policy " + s.External})
	}
	if s.Affinity != 0 {
		out = append(out, fact{"Session affinity", "client IP, for " + (time.Duration(s.Affinity) * time.Second).String()})
	}
	return out
}

func portOf(s *status.Service, i int, now time.Time) port {
	p := &s.Ports[i]
	out := port{Title: p.Title(), Notes: s.Notes(i, now)}
	for j := range p.Endpoints {
		out.Endpoints = append(out.Endpoints, endpointOf(&p.Endpoints[j]))
	}
	for _, family := range families(p) {
		out.Pictures = append(out.Pictures, Draw(s, p, family))
	}
	return out
}

// families lists the families that the port has addresses of.
func families(p *status.Port) []string {
	var out []string
	for _, a := range p.Addresses {
		if len(out) == 0 || out[len(out)-1] != a.Family {
			out = append(out, a.Family)
		}
	}
	return out
}
