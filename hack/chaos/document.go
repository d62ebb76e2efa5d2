package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"svcproxy/hack/internal/markdown"
)

// document writes the page from the results of runs.
func document(path string, files []string) error {
	var results []*result
	for _, file := range files {
		r, err := readResult(file)
		if err != nil {
			return fmt.Errorf("read a result: %w", err)
		}
		results = append(results, r)
	}
	slices.SortFunc(results, func(a, b *result) int { // svcproxy before kube-proxy, nft before legacy
		return -cmp.Or(strings.Compare(a.Proxy, b.Proxy), strings.Compare(a.Backend, b.Backend))
	})
	var page bytes.Buffer
	page.WriteString(beginning)
	writeRuns(&page, results)
	fmt.Fprintf(&page, "## What was made to go wrong\n\n")
	for _, f := range faults() {
		fmt.Fprintf(&page, "- **%s**: %s.\n", f.name, f.how)
	}
	fmt.Fprintf(&page, "\n%s", columns)
	for _, backend := range []string{"nft", "legacy"} {
		writeFaults(&page, backend, resultOf(results, "svcproxy", backend), resultOf(results, "kube-proxy", backend))
	}
	writeExplained(&page)
	writeViolations(&page, results)
	writeLeft(&page, results)
	page.WriteString(how)
	return os.WriteFile(path, page.Bytes(), 0o644)
}

const beginning = `# Reliability

What becomes of connections through Services when things go wrong around the service proxy, for svcproxy and for the real
kube-proxy put through the same. ` + "`make chaos`" + ` does all of it again and writes this page, ` + "`make test-api`" + ` a short form of
it, without kube-proxy.

`

const columns = `## What came of it

*Opened* are the TCP connections and exchanges over UDP that began from when the fault began until all was served again, by
svcproxy with rules as after a fresh load. Of these,
*lost* are those that failed; *stale*, where there are any, those that got to a pod that had left its Service more than 5 seconds
before, where they would fail as well if the pod were gone; and *kept* counts questions that failed on connections that are kept
open. *Healed* is from when the fault was over until every Service was served by its endpoints of then, a change that was made during the fault among
them: the median and the longest. What is not healed in 45 seconds is not waited for: the proxy is killed, and started anew.

`

const how = `## How it is measured

All is in network namespaces of a machine: a real API server with etcd, a node with the proxy, pods that answer each question with
the address that it came to, and a client. There are some 115 Services with a TCP and a UDP port, two or three of them changing
each second. The client opens connections to 13 of them and to node ports, six at a time with pauses of 10 ms between them, checks that
the answer comes from a pod that is an endpoint or was one until 5 seconds ago, and keeps six TCP connections and six flows
over UDP open, each of which asks 20 times a second; a flow over UDP lasts 6 seconds, then another one begins. What no rule
catches leaves the node and is refused outside, so each connection that finds no rules is lost at once, and counts.

After each fault svcproxy's rules are compared, chain by chain as iptables-save prints them, with those that another svcproxy
makes of the same objects in an empty namespace. They have to be equal within 5 seconds, nothing that svcproxy started may
be left, and it may have no more goroutines and open files than before, or than at the beginning.

No clock was set: the clocks of a machine are one for all namespaces. A process that was stopped for a while finds that they have
jumped, which is what **paused** is.
`

// writeRuns says what was run.
func writeRuns(w io.Writer, results []*result) {
	fmt.Fprintf(w, "The last runs were:\n\n")
	lines := [][]string{{"", "backend", "began", "took", "faults", "seed"}}
	for _, r := range results {
		lines = append(lines, []string{r.name(), r.Backend, r.Began.Format("2006-01-02 15:04"), fmt.Sprintf("%.0f min", r.Lasted.Minutes()),
			fmt.Sprint(len(r.Trials)), fmt.Sprint(r.Seed)})
	}
	markdown.Table(w, lines)
	fmt.Fprintf(w, "The machine: %s.\n\n", results[0].Machine)
}

func (r *result) name() string { return strings.TrimSpace(r.Proxy + " " + r.Version) }

// resultOf is that of a proxy; nil: there is none.
func resultOf(results []*result, proxy, backend string) *result {
	i := slices.IndexFunc(results, func(r *result) bool { return r.Proxy == proxy && r.Backend == backend })
	if i < 0 {
		return nil
	}
	return results[i]
}

// writeFaults writes what came of the faults on a backend, for the proxies that were
// run there.
func writeFaults(w io.Writer, backend string, both ...*result) {
	both = slices.DeleteFunc(both, func(r *result) bool { return r == nil })
	if len(both) == 0 {
		return
	}
	fmt.Fprintf(w, "### iptables-%s\n\n", backend)
	head := []string{"fault"}
	for _, r := range both {
		head = append(head, r.Proxy+": tried", "opened", "lost", "healed")
	}
	lines := [][]string{head}
	for _, f := range faults() {
		line := []string{f.name}
		for _, r := range both {
			line = append(line, r.of(f.name)...)
		}
		lines = append(lines, line)
	}
	line := []string{"none"}
	for _, r := range both {
		line = append(line, "", fmt.Sprint(r.Between.Opened), r.Between.lost(), "")
	}
	markdown.Table(w, append(lines, line))
}

// of is the cells of a fault.
func (r *result) of(fault string) []string {
	var all tally
	var heals []time.Duration
	for _, t := range r.Trials {
		if t.Fault != fault {
			continue
		}
		all.add(t.Tally)
		heals = append(heals, t.Heal)
	}
	if len(heals) == 0 {
		return []string{"-", "", "", ""}
	}
	return []string{fmt.Sprint(len(heals)), fmt.Sprint(all.Opened), all.lost(), healings(heals)}
}

// lost is how many were lost, and how many were kept open or stale.
func (t *tally) lost() string {
	text := fmt.Sprint(t.Lost)
	if t.Broken > 0 {
		text += fmt.Sprintf(", %d kept", t.Broken)
	}
	if t.Stale > 0 {
		text += fmt.Sprintf(", %d stale", t.Stale)
	}
	return text
}

// healings says how long it took: the median, the longest, and how often it did not heal.
func healings(took []time.Duration) string {
	did := slices.DeleteFunc(slices.Clone(took), func(d time.Duration) bool { return d < 0 })
	slices.Sort(did)
	var parts []string
	if n := len(did); n > 0 {
		text := fmt.Sprintf("%.1f s", (did[(n-1)/2]+did[n/2]).Seconds()/2)
		if n > 1 {
			text += fmt.Sprintf(", %.1f s", did[n-1].Seconds())
		}
		parts = append(parts, text)
	}
	if never := len(took) - len(did); never > 0 {
		parts = append(parts, fmt.Sprintf("not: %d of %d", never, len(took)))
	}
	return strings.Join(parts, "; ")
}

// writeExplained says what connections are lost for good reason.
func writeExplained(w io.Writer) {
	var gone, stuck []string
	for _, f := range faults() {
		if f.gone {
			gone = append(gone, f.name)
		}
		if f.stuck {
			stuck = append(stuck, f.name)
		}
	}
	fmt.Fprintf(w, "## What is lost, and why\n\n")
	fmt.Fprintf(w, "A run fails if svcproxy loses a connection but for these cases:\n\n")
	fmt.Fprintf(w, "- %s: somebody else takes the rules away. Until they are back no service proxy can serve; how long that is, is what counts.\n", strings.Join(gone, ", "))
	fmt.Fprintf(w, "- %s: the proxy cannot hear of changes, or not write, for more than 5 seconds. Connections go on to be made, but to the endpoints of before: some are stale.\n", strings.Join(stuck, ", "))
	for _, f := range faults() {
		if f.late > 0 {
			fmt.Fprintf(w, "- %s: svcproxy may take %.0f seconds longer to heal than after others, as %s.\n", f.name, f.late.Seconds(), f.because)
		}
	}
	fmt.Fprintln(w)
}

// writeViolations says where svcproxy did not do as it has to.
func writeViolations(w io.Writer, results []*result) {
	var all []string
	for _, r := range results {
		for _, v := range r.Violations {
			all = append(all, fmt.Sprintf("- iptables-%s, %s\n", r.Backend, v))
		}
	}
	if len(all) > 0 {
		fmt.Fprintf(w, "In the last runs it was not so here:\n\n%s\n", strings.Join(all, ""))
	}
}

// writeLeft says what the processes had at the beginning and in the end.
func writeLeft(w io.Writer, results []*result) {
	fmt.Fprintf(w, "## What is left\n\nOf each proxy, before the first fault and after the last:\n\n")
	lines := [][]string{{"", "backend", "goroutines", "open files", "memory, MB"}}
	for _, r := range results {
		a, b := r.First, r.Last
		lines = append(lines, []string{r.Proxy, r.Backend, fmt.Sprintf("%.0f, %.0f", a.Goroutines, b.Goroutines), fmt.Sprintf("%.0f, %.0f", a.FDs, b.FDs),
			fmt.Sprintf("%.0f, %.0f", a.RSS/1e6, b.RSS/1e6)})
	}
	markdown.Table(w, lines)
	worst := time.Duration(0)
	for _, r := range results {
		for _, t := range r.Trials {
			worst = max(worst, t.Fresh)
		}
	}
	fmt.Fprintf(w, "Once objects had ceased to change, svcproxy's rules were those of a fresh load after %.1f seconds at most.\n\n", worst.Seconds())
}
