package status

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
)

// Note is a remark on a Service or a port.
type Note struct {
	Text string
	Bad  bool // users are not served as they should be
}

// Notes are the remarks on a port of the Service. Those on the Service itself come
// with its first port.
func (s *Service) Notes(port int, now time.Time) []Note {
	var out []Note
	if port == 0 {
		for _, q := range s.Quarantine {
			out = append(out, Note{q.Family + " in quarantine: " + q.InForce, true})
		}
		if s.Drift != nil {
			out = append(out, Note{"drift: " + s.Drift.Words(now), false})
		}
	}
	p := &s.Ports[port]
	switch at := p.refusedAt(); {
	case len(at) > 0 && len(at) == len(p.Addresses):
		out = append(out, Note{"no endpoint: refused", true})
	case len(at) > 0:
		out = append(out, Note{"refused at " + strings.Join(at, ", "), true})
	case p.Refuses() == RefusedOutside:
		out = append(out, Note{"no endpoint here for clients outside: refused", false})
	}
	if p.Absent() {
		out = append(out, Note{"not in the kernel", true})
	}
	return out
}

// refusedAt lists the addresses that serve nobody.
func (p *Port) refusedAt() []string {
	var out []string
	for _, a := range p.Addresses {
		if a.Refused != RefusedAll {
			continue
		}
		text := a.Address
		if port, ok := strings.CutPrefix(text, ":"); ok {
			text = "node port " + port + " over " + a.Family
		}
		out = append(out, text)
	}
	return out
}

// Words says how much drift there was, when and by whom.
func (d *Drift) Words(now time.Time) string {
	text := fmt.Sprintf("%d set right, the last %s ago", d.Count, Ago(d.Last, now))
	if len(d.By) > 0 {
		text += " after " + strings.Join(d.By, ", ")
	}
	return text
}

// Words says when the change was, and how long it took; empty: there was none.
func (c *Change) Words(now time.Time) string {
	if c == nil {
		return ""
	}
	return Ago(c.At, now) + " ago, in " + Took(c.Seconds)
}

// Title names the port as one of its Service: by name and number, with the protocol.
func (p *Port) Title() string {
	number := strconv.Itoa(int(p.Port))
	if p.Port == 0 {
		number = "node port " + strconv.Itoa(int(p.NodePort))
	}
	if p.Name != "" {
		number = p.Name + " " + number
	}
	return number + "/" + p.Protocol
}

// Ago is a time as people tell it: "5m", "3d".
func Ago(at, now time.Time) string { return Human(now.Sub(at)) }

// Human is a length of time as people tell it; one below 0 is "0s".
func Human(d time.Duration) string { return duration.HumanDuration(max(0, d)) }

// Took tells seconds that something took, as exactly as is worth reading.
func Took(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// Percent tells a share.
func Percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + "%" }

// Number tells a count; empty: it is not known.
func Number(n *uint64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(*n, 10)
}
