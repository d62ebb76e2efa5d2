package page

import (
	"fmt"
	"strings"
	"time"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"svcproxy/pkg/status"
)

// nodeSection is the summary of the node.
func nodeSection(n *status.Node) g.Node {
	class, health := "pill bad", "not in step with the cluster"
	if n.Healthy != nil && *n.Healthy {
		class, health = "pill good", "in step with the cluster"
	}
	return h.Section(h.ID("node"), h.Class("node fresh"), h.Aria("label", "This node"),
		h.P(h.Class(class), g.Text(health)),
		g.If(n.Leaving, g.Group{g.Text(" "), h.P(h.Class("pill fair"), g.Text("the Node is leaving"))}),
		h.P(g.Textf("iptables-%s · svcproxy %s · %s · as of %s", n.Backend, n.Version, count(n.Services, "Service"), clock(n.Now))),
		h.Dl(h.Class("families"), g.Map(n.Families, func(f status.Family) g.Node { return familyFacts(&f, n.Now) })),
		g.If(n.Problems > 0, remark("fair", "Problems", count(n.Problems, "part")+" of objects left out; the log of svcproxy names each.")),
		noCounters(n),
		g.Map(n.Families, func(f status.Family) g.Node { return familyRemarks(&f, n.Now) }),
	)
}

// clock is when the page was made.
func clock(now time.Time) string { return now.Format("15:04:05") }

// count is a number of things, in words.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// noCounters says why there are no counters.
func noCounters(n *status.Node) g.Node { return remark("fair", "No counters", n.Counters) }

func familyFacts(f *status.Family, now time.Time) g.Node {
	synced, pending := "not yet", ""
	if s := f.Sync; s != nil {
		if s.Last != nil {
			synced = status.Ago(*s.Last, now) + " ago, in " + status.Took(s.Seconds)
		}
		if s.Pending != nil {
			pending = status.Ago(*s.Pending, now)
		}
	}
	return h.Div(
		h.Dt(g.Text(f.Family)),
		h.Dd(g.Text("synced "+synced)),
		h.Dd(g.Text(count(f.Endpoints, "endpoint"))),
		h.Dd(g.Textf("%d nat and %d filter rules", f.Rules.Nat, f.Rules.Filter)),
		g.If(pending != "", h.Dd(h.Class("fair"), g.Text("changes wait since "+pending))),
	)
}

// familyRemarks are about what is not as it should be.
func familyRemarks(f *status.Family, now time.Time) g.Node {
	about := f.Family + ": "
	var out g.Group
	if f.Sync != nil {
		out = append(out, remark("bad", about+"the last sync failed", f.Sync.Error))
	}
	out = append(out, quarantines(f.Refused, now))
	if f.Drift != nil {
		out = append(out, remark("fair", about+"drift", f.Drift.Words(now)), driftKinds(f.Drift.Kinds))
	}
	for _, m := range f.Missing {
		out = append(out, remark("fair", about+"the kernel lacks "+m.Name, m.Without))
	}
	return out
}

func driftKinds(kinds []status.DriftKind) g.Node {
	if len(kinds) == 0 {
		return nil
	}
	return h.Ul(h.Class("kinds"), g.Map(kinds, func(k status.DriftKind) g.Node {
		return h.Li(g.Textf("%s %s: %d", k.Table, strings.ReplaceAll(k.Kind, "_", " "), k.Count))
	}))
}

// quarantines says which Services are in quarantine, why, and until when.
func quarantines(all []status.Quarantine, now time.Time) g.Node {
	return g.Map(all, func(q status.Quarantine) g.Node {
		return h.Details(h.Class("remark bad"), g.Attr("open"),
			h.Summary(
				h.Strong(g.Text(q.Service+" is in quarantine")),
				g.Textf(" since %s: %s; tried again in %s", status.Ago(q.Since, now), q.InForce, status.Human(q.Next.Sub(now))),
			),
			h.P(g.Text("The kernel said: "+q.Reason)),
			g.If(q.Rule != "", h.Pre(g.Text(q.Rule))),
		)
	})
}
