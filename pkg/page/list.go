package page

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"svcproxy/pkg/status"
)

// perPage is how many Services the list shows at once.
const perPage = 100

// listPage is the list of Services.
type listPage struct {
	frame
	Search   string
	Trouble  bool
	Sorts    []choice
	Rows     []row
	From, To int // which of Matched the rows are about, counted from 1
	Matched  int
	Total    int
	Previous string // links; empty: there is none
	Next     string
	All      string // to the list without any filter; empty: this is it
}

// choice is one of a list of which one is chosen.
type choice struct {
	Value, Label string
	Chosen       bool
}

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
	sel := report.Selection
	p := listPage{
		frame:  frame{Title: "Services", Node: nodeOf(report), Refresh: refresh(took), Trace: s.trace != nil},
		Search: q.Search, Trouble: q.Trouble, Sorts: sorts(q.Sort),
		From: min(sel.Offset+1, sel.Matched), To: sel.Offset + sel.Shown, Matched: sel.Matched, Total: sel.Total,
		Previous: pageLink(q, q.Offset-perPage, sel.Matched), Next: pageLink(q, q.Offset+perPage, sel.Matched),
	}
	if q.Search != "" || q.Trouble {
		p.All = Root
	}
	for i := range report.Services {
		p.Rows = append(p.Rows, rowsOf(&report.Services[i], report.Node.Now)...)
	}
	s.render(w, http.StatusOK, "list.html", p)
}

// listQuery reads the parts of a query that the list has controls for.
func listQuery(v url.Values) (*status.Query, error) {
	v = url.Values{"search": {strings.TrimSpace(v.Get("search"))}, "trouble": v["trouble"], "sort": v["sort"], "offset": v["offset"]}
	q, err := status.ParseQuery(v)
	q.Limit, q.Counters = perPage, true
	return &q, err
}

func sorts(now status.Order) []choice {
	labels := map[status.Order]string{
		status.ByName: "name", status.ByConnections: "most connections", status.ByEndpoints: "most endpoints", status.ByChange: "latest change",
	}
	var out []choice
	for _, o := range status.Orders() {
		out = append(out, choice{string(o), labels[o], o == now})
	}
	return out
}

// pageLink leads to the part of the list that begins at an offset; empty: there is none.
func pageLink(q *status.Query, offset, matched int) string {
	if offset <= -perPage || offset >= matched {
		return ""
	}
	to := status.Query{Search: q.Search, Trouble: q.Trouble, Sort: q.Sort, Offset: max(0, offset)}
	if v := to.Values(); len(v) > 0 {
		return Root + "?" + v.Encode()
	}
	return Root
}

// row is one port of a Service, with the Service's own cells at its first port.
type row struct {
	Name, Link string
	Port       string
	Addresses  []string
	Endpoints  []endpoint
	More       int // endpoints that are not shown
	Lines      int // of the table that the row takes: one for each endpoint
	Changed    string
	Notes      []status.Note
}

// endpoint is one endpoint, in words.
type endpoint struct {
	Family, Address, Node, State, Chain string
	Unused                              bool // this node sends nothing there
	Shares                              []share
}

// share is a share in words, and its bar.
type share struct {
	Policy, Wanted, Measured, Connections string
	Bar                                   bar
}

// bar is a picture of a share: what is measured, and a mark at what is wanted.
type bar struct{ Filled, Mark int }

// barWidth is how wide a bar is.
const barWidth = 64

// listedEndpoints bounds the endpoints of a port in the list.
const listedEndpoints = 4

func rowsOf(s *status.Service, now time.Time) []row {
	var out []row
	for i := range s.Ports {
		p := &s.Ports[i]
		r := row{Name: s.ID(), Link: serviceLink(s), Port: p.Title(), Notes: s.Notes(i, now)}
		for _, a := range p.Addresses {
			r.Addresses = append(r.Addresses, a.Address)
		}
		shown := p.Endpoints[:min(len(p.Endpoints), listedEndpoints)]
		r.More = len(p.Endpoints) - len(shown)
		for j := range shown {
			r.Endpoints = append(r.Endpoints, endpointOf(&shown[j]))
		}
		if i == 0 {
			r.Changed = s.Changed.Words(now)
		}
		r.Lines = max(1, len(r.Endpoints))
		if r.More > 0 {
			r.Lines++
		}
		out = append(out, r)
	}
	return out
}

func serviceLink(s *status.Service) string {
	return Base + "service/" + url.PathEscape(s.Namespace) + "/" + url.PathEscape(s.Name)
}

func endpointOf(e *status.Endpoint) endpoint {
	out := endpoint{Family: e.Family, Address: e.Address, Node: e.Node, State: e.State, Chain: e.Chain, Unused: len(e.Shares) == 0}
	for _, s := range e.Shares {
		one := share{Policy: s.Policy, Wanted: status.Percent(s.Wanted), Connections: status.Number(s.Connections), Bar: bar{Mark: pixels(s.Wanted)}}
		if s.Measured != nil {
			one.Measured = status.Percent(*s.Measured)
			one.Bar.Filled = pixels(*s.Measured)
		}
		out.Shares = append(out.Shares, one)
	}
	return out
}

func pixels(share float64) int { return int(share*barWidth + 0.5) }
