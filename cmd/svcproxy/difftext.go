package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"svcproxy/pkg/rules"
)

// print writes the report as text or JSON.
func (r *diffReport) print(w io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	t := &diffText{out: terminalOf(w), compared: r.Compared}
	for i := range r.Families {
		t.family(&r.Families[i])
	}
	for i := range r.Families {
		t.summary(&r.Families[i])
	}
	_, err := io.WriteString(w, t.String())
	return err
}

// diffText is a report for people: a unified diff under a line for each Service.
type diffText struct {
	strings.Builder
	out      terminal
	compared string
}

func (t *diffText) line(format string, args ...any) { fmt.Fprintf(&t.Builder, format+"\n", args...) }

func (t *diffText) painted(s style, line string) { t.line("%s", t.out.paint(s, line)) }

// mostAlike is how many Services are named that have no rules of their own that differ,
// but packets that fare otherwise, because rules that all need are wrong.
const mostAlike = 10

func (t *diffText) family(f *familyDiff) {
	left := 0
	for i := range f.Services {
		s := &f.Services[i]
		if len(s.Chains) > 0 || t.compared == comparedFates {
			t.service(f, s)
			continue
		}
		if left++; left <= mostAlike {
			t.service(f, s)
		}
	}
	if more := left - mostAlike; more > 0 {
		t.line("and packets to %d more Services fare otherwise; --fates lists all\n", more)
	}
}

func (t *diffText) service(f *familyDiff, s *serviceDiff) {
	t.painted(bold, serviceHeading(s))
	for i := range s.Chains {
		t.chain(f, &s.Chains[i])
	}
	t.packets(s.Packets)
	t.line("")
}

func serviceHeading(s *serviceDiff) string {
	switch {
	case s.Service == "":
		return "Rules of no single Service"
	case !s.Wanted:
		return "Service " + s.Service + ": not among the objects"
	case s.Quarantined != "":
		return "Service " + s.Service + ": in quarantine, the kernel refuses its rules; in force: " + s.Quarantined
	}
	return "Service " + s.Service
}

func (t *diffText) chain(f *familyDiff, c *chainDiff) {
	name := fmt.Sprintf("%s %s %s", f.Family, c.Table, c.Chain)
	have, want := f.From, "wanted"
	switch c.Kind {
	case rules.ChainMissing:
		have = "no such chain"
	case rules.ChainStale:
		want = "not wanted"
	case rules.JumpBehind:
		want = "wanted before the rule that takes every packet"
	}
	t.painted(bold, "--- "+name+"\t"+have)
	t.painted(bold, "+++ "+name+"\t"+want)
	for i := range c.Hunks {
		t.hunk(&c.Hunks[i])
	}
}

func (t *diffText) hunk(h *hunkDiff) {
	have, want := (&rules.Hunk{Lines: h.Lines}).Counts()
	t.painted(faint, fmt.Sprintf("@@ -%d,%d +%d,%d @@", h.Have, have, h.Want, want))
	for _, l := range h.Lines {
		switch l[0] {
		case '-':
			t.painted(red, l)
		case '+':
			t.painted(green, l)
		default:
			t.line("%s", l)
		}
	}
}

// mostPackets is how many kinds of packets are named beside rules that differ.
const mostPackets = 3

// packets says what becomes of packets, those together that fare alike.
func (t *diffText) packets(all []packetDiff) {
	for n := 0; len(all) > 0; n++ {
		if n == mostPackets && t.compared == comparedRules {
			t.line("and %s more fare otherwise; --fates lists all", count(len(all), "kind")+" of packets")
			return
		}
		first := all[0]
		var from []string
		var rest []packetDiff
		for _, p := range all {
			same := p
			same.From = first.From
			if same == first {
				from = append(from, p.From)
			} else {
				rest = append(rest, p)
			}
		}
		all = rest
		t.packet(&first, strings.Join(from, "; "))
	}
}

func (t *diffText) packet(p *packetDiff, from string) {
	t.line("packets over %s to %s from %s", p.Protocol, p.To, from)
	if p.Unknown != "" {
		t.line("  cannot be told: %s", p.Unknown)
		return
	}
	t.line("  are     %s", p.Have)
	t.line("  should  %s", p.Want)
}

// summary is the last line about a family, and what to do.
func (t *diffText) summary(f *familyDiff) {
	t.line("%s, %s: %s", f.Family, f.From, strings.Join(f.findings(t.compared), "; "))
	for _, table := range f.Unreadable {
		t.line("  table %s holds rules made by nft that iptables cannot show, and was not compared; 'nft list table %s %s' shows them",
			table, nftFamily(f.Family), table)
	}
	if l := f.Leftover; l != nil {
		t.line("  %s holds %s and %s of a service proxy too, and the kernel applies both; '%s-save' shows them, and 'svcproxy --cleanup' removes all rules of both",
			l.From, count(l.Chains, "chain"), count(l.Jumps, "jump"), l.From)
	}
}

func nftFamily(family string) string {
	if family == rules.IPv6.String() {
		return "ip6"
	}
	return "ip"
}

// findings says how a family came out.
func (f *familyDiff) findings(compared string) []string {
	var out []string
	switch {
	case f.Proxy == "kube-proxy":
		out = append(out, "these are kube-proxy's rules, which have another layout")
	case f.Proxy == "none":
		out = append(out, "there are no rules of a service proxy: is it running, and does it use this backend?")
	}
	switch {
	case f.Chains > 0:
		out = append(out, count(f.Chains, "chain")+" "+plural(f.Chains, "differs", "differ"))
	case f.Result == resultSame && compared == comparedRules:
		out = append(out, "as wanted")
	}
	switch {
	case f.Fates == nil:
		return append(out, "what becomes of packets cannot be told")
	case f.Fates.Services == 0:
		return append(out, "there is no Service to send packets to")
	}
	if other := f.Fates.Services - f.Fates.Same; other > 0 {
		return append(out, fmt.Sprintf("packets to %d of %s fare otherwise", other, count(f.Fates.Services, "Service")))
	}
	return append(out, fmt.Sprintf("packets to %s fare as they should", allOf(f.Fates.Services)))
}

func allOf(n int) string {
	if n == 1 {
		return "the one Service"
	}
	return fmt.Sprintf("all %s", count(n, "Service"))
}

// count writes a number of things.
func count(n int, thing string) string { return fmt.Sprintf("%d %s", n, plural(n, thing, thing+"s")) }

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
