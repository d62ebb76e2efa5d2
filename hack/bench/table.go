package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"svcproxy/hack/internal/markdown"
	"svcproxy/hack/internal/proxies"
)

// row is how a measure is shown.
type row struct {
	measure measure
	title   string
	unit    string
	scale   float64 // from what is stored to the unit
	note    string
}

func rows() []row {
	return []row{
		{firstSync, "First sync", "s", 1, "from the start of the process until connections through 50 Services from everywhere among them get somewhere"},
		{firstSyncCPU, "CPU of the first sync", "s", 1, "the proxy and the commands it ran, until then"},
		{change, "One endpoint changed", "ms", 1e3, "from the event of its EndpointSlice until a connection gets to the new endpoint; among more than two endpoints, until the command that wrote it is done"},
		{bareRestore, "The same lines without a proxy", "ms", 1e3, "what svcproxy wrote for that, given to iptables-restore again on the same tables, and seen in the same way"},
		{changeCPU, "CPU of one change", "ms", 1e3, "the proxy and the commands it ran"},
		{changeInput, "Input of one change", "bytes", 1, "what iptables-restore or nft read"},
		{memory, "Memory", "MB", 1. / (1 << 20), "VmRSS of the proxy, after the changes"},
		{connectFirst, "TCP connect, first Service", "µs", 1e6, "median; the Service whose rules come first, where there is an order"},
		{connectLast, "TCP connect, last Service", "µs", 1e6, "median; the Service whose rules come last"},
		{connectNone, "TCP connect, no Service", "µs", 1e6, "median; to a pod, past all Services"},
		{oneService, "TCP connect, the only Service", "µs", 1e6, "median; at the same time on a node that knows one Service with two endpoints"},
		{oneNone, "TCP connect, no Service, where one exists", "µs", 1e6, "median; at the same time on that node, to a pod"},
		{restart, "Restart on a right node", "s", 1, "from the start of the process until /healthz says 200"},
		{restartRuns, "Commands that write, of a restart", "", 1, ""},
	}
}

// writeTables prints one table for each measure, in Markdown that is readable as
// it is: a line for each size, a column for each proxy.
func writeTables(w io.Writer, r results) {
	for _, row := range rows() {
		columns := r.proxiesWith(row.measure)
		if len(columns) == 0 {
			continue
		}
		title := row.title
		if row.unit != "" {
			title += ", " + row.unit
		}
		fmt.Fprintf(w, "### %s\n\n", title)
		if row.note != "" {
			fmt.Fprintf(w, "%s.\n\n", strings.ToUpper(row.note[:1])+row.note[1:])
		}
		lines := [][]string{append([]string{""}, columns...)}
		for _, s := range r.sizes() {
			line := []string{s.String()}
			found := false
			for _, p := range columns {
				v := r[key{row.measure, p, s}]
				found = found || v != nil
				line = append(line, row.cell(v, r.peer(row.measure, p, s)))
			}
			if found {
				lines = append(lines, line)
			}
		}
		markdown.Table(w, lines)
	}
}

// cell is the median, the spread, and how svcproxy compares with its peer.
func (row row) cell(v, peer *series) string {
	switch {
	case v == nil:
		return "-"
	case v.over:
		return "> " + figure(v.median()*row.scale)
	}
	text := figure(v.median() * row.scale)
	if v.min() < v.max() {
		text += fmt.Sprintf(" (%s-%s)", figure(v.min()*row.scale), figure(v.max()*row.scale))
	}
	if peer != nil && peer.median() > 0 {
		sign := ""
		if peer.over {
			sign = "< "
		}
		text += fmt.Sprintf(" = %s%.2f x", sign, v.median()/peer.median())
	}
	return text
}

// peer is kube-proxy on the same backend, for svcproxy's figures.
func (r results) peer(m measure, proxy string, s size) *series {
	switch proxy {
	case proxies.SvcproxyNFT:
		return r[key{m, proxies.KubeProxyNFT, s}]
	case proxies.SvcproxyLegacy:
		return r[key{m, proxies.KubeProxyLegacy, s}]
	}
	return nil
}

func (r results) proxiesWith(m measure) []string {
	var out []string
	for _, p := range append(proxies.Names(), noProxy) {
		for k := range r {
			if k.measure == m && k.proxy == p {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

// figure has three digits that matter.
func figure(v float64) string {
	switch {
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case v == float64(int(v)):
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// writeBars prints what was met, what was missed, and what was not measured.
func writeBars(w io.Writer, verdicts []verdict) {
	lines := [][]string{{"", "measured", "limit", "size", "bar"}}
	skipped := map[string][]string{}
	for _, v := range verdicts {
		outcome := "met"
		switch {
		case v.skipped != "":
			skipped[v.skipped] = append(skipped[v.skipped], v.text)
			continue
		case !v.met():
			outcome = "MISSED"
		}
		lines = append(lines, []string{outcome, fmt.Sprintf("%.4g", v.value), fmt.Sprintf("%.4g", v.limit), v.what.size.String(), v.text})
	}
	if len(lines) > 1 {
		markdown.Table(w, lines)
	}
	for _, reason := range slices.Sorted(maps.Keys(skipped)) {
		fmt.Fprintf(w, "Skipped, since %s:\n\n", reason)
		for _, text := range skipped[reason] {
			fmt.Fprintf(w, "- %s\n", text)
		}
		fmt.Fprintln(w)
	}
}
