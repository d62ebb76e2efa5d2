package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"svcproxy/pkg/status"
)

// print prints a report in the form asked for. interval is the time that it is about;
// 0: since the counters began.
func (s *statusOptions) print(out *screen, r *status.Report, interval time.Duration) error {
	var err error
	switch s.output {
	case "json":
		err = status.Write(out.stdout, r)
	case "yaml":
		var text []byte
		if text, err = yaml.Marshal(r); err == nil {
			_, err = out.stdout.Write(append([]byte("---\n"), text...))
		}
	default:
		err = statusText{out, r, s.output == "wide", interval}.print()
	}
	if err != nil {
		return fmt.Errorf("print the status: %w", err)
	}
	return nil
}

// statusText prints a report for people.
type statusText struct {
	*screen
	r        *status.Report
	wide     bool
	interval time.Duration
}

func (t statusText) print() error {
	t.node()
	if len(t.r.Services) > 0 {
		fmt.Fprintln(t.stdout)
		if err := t.screen.print(t.table()); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(t.stdout, t.rest())
	return err
}

// node prints the summary.
func (t statusText) node() {
	n := &t.r.Node
	words := []string{}
	if n.Name != "" {
		words = append(words, n.Name+":")
	}
	switch n.Source {
	case status.FromProxy:
		words = append(words, "svcproxy "+n.Version+",")
	case status.FromKernel:
		words = append(words, "the kernel's rules,")
	default:
		words = append(words, "objects, with the kernel's counters,")
	}
	words = append(words, "iptables-"+n.Backend+",", count(n.Services, "Service"))
	line := strings.Join(words, " ")
	if n.Healthy != nil && !*n.Healthy {
		line += ", " + t.paint(red, "not in step with the cluster")
	}
	if n.Leaving {
		line += ", " + t.paint(amber, "the Node is leaving")
	}
	fmt.Fprintln(t.stdout, line)
	for i := range n.Families {
		t.family(&n.Families[i])
	}
	if n.Problems > 0 {
		fmt.Fprintf(t.stdout, "  %s: %s of objects left out; the log of svcproxy names each\n", t.paint(amber, "problems"), count(n.Problems, "part"))
	}
	if n.Counters != "" {
		fmt.Fprintf(t.stdout, "  %s: %s\n", t.paint(amber, "no counters"), n.Counters)
	}
}

func (t statusText) family(f *status.Family) {
	words := []string{}
	if s := f.Sync; s != nil {
		switch {
		case s.Last == nil:
			words = append(words, t.paint(red, "not synced yet"))
		default:
			words = append(words, fmt.Sprintf("synced %s ago in %s", t.ago(*s.Last), status.Took(s.Seconds)))
		}
		if s.Pending != nil {
			words = append(words, t.paint(amber, "changes wait since "+t.ago(*s.Pending)))
		}
		words = append(words, count(f.Endpoints, "endpoint"))
	}
	if f.Rules.Nat+f.Rules.Filter > 0 {
		words = append(words, fmt.Sprintf("%d nat and %d filter rules", f.Rules.Nat, f.Rules.Filter))
	}
	fmt.Fprintf(t.stdout, "  %s  %s\n", f.Family, strings.Join(words, ", "))
	if f.Sync != nil && f.Sync.Error != "" {
		t.remark(red, "the last sync failed", f.Sync.Error)
	}
	for _, q := range f.Refused {
		t.remark(red, "quarantine", fmt.Sprintf("%s since %s: %s; tried again in %s; %s",
			q.Service, t.ago(q.Since), q.InForce, status.Human(q.Next.Sub(t.r.Node.Now)), firstLine(q.Reason)))
	}
	if d := f.Drift; d != nil {
		t.remark(amber, "drift", driftText(d, t.r.Node.Now))
	}
	for _, m := range f.Missing {
		t.remark(amber, "the kernel lacks "+m.Name, m.Without)
	}
}

func (t statusText) remark(look style, head, text string) {
	fmt.Fprintf(t.stdout, "        %s: %s\n", t.paint(look, head), text)
}

func driftText(d *status.Drift, now time.Time) string {
	var kinds []string
	for _, k := range d.Kinds {
		kinds = append(kinds, fmt.Sprintf("%s %s %d", k.Table, k.Kind, k.Count))
	}
	return d.Words(now) + " (" + strings.Join(kinds, ", ") + ")"
}

// table has a row for each address and endpoint, side by side.
func (t statusText) table() *grid {
	out := &grid{columns: []column{
		{head: "SERVICE"}, {head: "ADDRESS", spare: 2}, {head: "ENDPOINT"}, {head: "STATE", spare: 6}, {head: "NODE", spare: 7},
		{head: "WANTED", right: true}, {head: "MEASURED", right: true}, {head: "CONNECTIONS", right: true, spare: 1},
		{head: "FLOWS", right: true, spare: 5}, {head: "CHANGED", spare: 3}, {head: "CHAIN", spare: 8}, {head: "NOTE"},
	}}
	for i := range t.r.Services {
		s := &t.r.Services[i]
		for j := range s.Ports {
			t.port(out, s, j)
		}
	}
	return out
}

// maxEndpoints bounds the endpoints that a port shows, unless -o wide.
const maxEndpoints = 16

// port adds the rows of a port. Some cells are the Service's, and stand with its
// first port.
func (t statusText) port(out *grid, s *status.Service, i int) {
	p := &s.Ports[i]
	eps := p.Endpoints
	more := 0
	if !t.wide && len(eps) > maxEndpoints {
		eps, more = eps[:maxEndpoints], len(eps)-maxEndpoints
	}
	var notes []cell
	for _, n := range s.Notes(i, t.r.Node.Now) {
		look := amber
		if n.Bad {
			look = red
		}
		notes = append(notes, cell{n.Text, look})
	}
	rows := max(1, len(p.Addresses), len(eps), len(notes))
	for line := range rows {
		row := make([]cell, len(out.columns))
		if line == 0 {
			row[0].text = s.ID() + portSuffix(p)
		}
		if line == 0 && i == 0 {
			row[9].text = s.Changed.Words(t.r.Node.Now)
		}
		if line < len(p.Addresses) {
			row[1].text = p.Addresses[line].Address
		}
		if line < len(eps) {
			t.endpoint(row, &eps[line])
		}
		if line < len(notes) {
			row[11] = notes[line]
		}
		out.add(row...)
	}
	if more > 0 {
		row := make([]cell, len(out.columns))
		row[2].text = fmt.Sprintf("and %d more: -o wide", more)
		out.add(row...)
	}
}

func (t statusText) endpoint(row []cell, e *status.Endpoint) {
	row[2].text = e.Address
	if e.State != status.Ready && e.State != "" {
		row[3] = cell{e.State, amber}
	}
	if t.wide {
		row[3].text, row[4].text, row[10].text = e.State, e.Node, e.Chain
	}
	if len(e.Shares) == 0 {
		row[5].text = "-"
	}
	row[5].text += joinShares(e, func(s *status.Share) string {
		if s.Policy == status.PolicyLocal {
			return "local " + status.Percent(s.Wanted)
		}
		return status.Percent(s.Wanted)
	})
	row[6].text = joinShares(e, func(s *status.Share) string {
		if s.Measured == nil {
			return ""
		}
		return status.Percent(*s.Measured)
	})
	row[7].text = joinShares(e, func(s *status.Share) string { return status.Number(s.Connections) })
	row[8].text = status.Number(e.Flows)
}

// joinShares tells one share, or those under both policies.
func joinShares(e *status.Endpoint, tell func(*status.Share) string) string {
	var words []string
	for i := range e.Shares {
		if text := tell(&e.Shares[i]); text != "" {
			words = append(words, text)
		}
	}
	return strings.Join(words, ", ")
}

// rest says what is not shown, and how to see it.
func (t statusText) rest() string {
	sel := &t.r.Selection
	var b strings.Builder
	if t.interval > 0 {
		fmt.Fprintf(&b, "\nMEASURED and CONNECTIONS are those of the last %v, except where they began anew. Ctrl-C ends.\n", t.interval)
	}
	switch {
	case sel.Shown < sel.Matched:
		fmt.Fprintf(&b, "\n%d of %s shown: name a NAMESPACE or NAMESPACE/NAME, or give --search, --trouble or --limit 0.\n", sel.Shown, count(sel.Matched, "Service"))
	case sel.Matched == 0 && sel.Total > 0 && len(sel.Unknown) == 0:
		fmt.Fprintf(&b, "\nNone of %s matches.\n", count(sel.Total, "Service"))
	}
	return b.String()
}

func portSuffix(p *status.Port) string {
	suffix := ""
	switch {
	case p.Name != "":
		suffix = ":" + p.Name
	case p.Port != 0:
		suffix = ":" + strconv.Itoa(int(p.Port))
	}
	if p.Protocol != "tcp" {
		suffix += "/" + strings.ToUpper(p.Protocol)
	}
	return suffix
}

func (t statusText) ago(at time.Time) string { return status.Ago(at, t.r.Node.Now) }

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
