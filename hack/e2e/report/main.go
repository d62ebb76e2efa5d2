// Command report makes the tables of docs/conformance.md out of what hack/e2e/run.sh kept.
//
//	report RESULTS >docs/conformance.md
//
// RESULTS holds a folder for each run, named PROXY-CNI, with a file about, which is lines of "key: value",
// and one JUnit file for each suite; and a file latency, if that was measured.
package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// suites are the files of a run, and what to call them.
var suites = []struct{ file, title string }{
	{"services.xml", "[sig-network] Services"},
	{"proxy.xml", "other tests of [sig-network] that need the service proxy"},
}

// proxies and networks are the columns: what is compared stands side by side.
var (
	proxies  = []string{"svcproxy", "kube-proxy"}
	networks = []string{"flannel", "bridge"}
)

// A run is one proxy with one pod network.
type run struct {
	proxy, network string
	about          map[string]string
	suites         map[string]suite // by file
}

func (r run) String() string { return r.proxy + ", " + r.network }

type suite struct {
	took  time.Duration
	tests map[string]outcome
}

// An outcome is pass, skip or fail, and why not pass.
type outcome struct{ state, why string }

func (s suite) count(state string) int {
	n := 0
	for _, o := range s.tests {
		if o.state == state {
			n++
		}
	}
	return n
}

type junit struct {
	Suites []struct {
		Time  float64 `xml:"time,attr"`
		Tests []struct {
			Name    string   `xml:"name,attr"`
			Status  string   `xml:"status,attr"`
			Skipped *message `xml:"skipped"`
			Failure *message `xml:"failure"`
			Error   *message `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

type message struct {
	Text string `xml:"message,attr"`
}

// labels are what ginkgo adds to a test's name: its labels, which mostly stand in the name already.
var labels = regexp.MustCompile(` \[sig-[^\]]*\]$`)

func parseSuite(r io.Reader) (suite, error) {
	var file junit
	if err := xml.NewDecoder(r).Decode(&file); err != nil {
		return suite{}, err
	}
	s := suite{tests: map[string]outcome{}}
	for _, in := range file.Suites {
		s.took += time.Duration(in.Time * float64(time.Second))
		for _, t := range in.Tests {
			name, isTest := strings.CutPrefix(t.Name, "[It] [sig-network] ")
			name = labels.ReplaceAllString(name, "")
			switch {
			case t.Failure != nil:
				s.tests[name] = outcome{"fail", t.Failure.Text}
			case t.Error != nil:
				s.tests[name] = outcome{"fail", t.Error.Text}
			case !isTest: // setting up and tearing down, where it went well
			case t.Skipped != nil:
				// Without a reason, it is one of the thousands that were not selected.
				if why, skipped := strings.CutPrefix(t.Skipped.Text, "skipped - "); skipped {
					s.tests[name] = outcome{"skip", why}
				}
			case t.Status == "passed":
				s.tests[name] = outcome{"pass", ""}
			default:
				s.tests[name] = outcome{"fail", t.Status}
			}
		}
	}
	return s, nil
}

func readRun(dir string) (run, error) {
	r := run{about: map[string]string{}, suites: map[string]suite{}}
	text, err := os.ReadFile(filepath.Join(dir, "about"))
	if err != nil {
		return r, err
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		r.about[key] = value
	}
	for _, s := range suites {
		file, err := os.Open(filepath.Join(dir, s.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return r, err
		}
		r.suites[s.file], err = parseSuite(file)
		file.Close()
		if err != nil {
			return r, fmt.Errorf("%s: %w", file.Name(), err)
		}
	}
	return r, nil
}

func readRuns(dir string) ([]run, error) {
	var runs []run
	for _, network := range networks {
		for _, proxy := range proxies {
			r, err := readRun(filepath.Join(dir, proxy+"-"+network))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			r.proxy, r.network = proxy, network
			runs = append(runs, r)
		}
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("no results in %s: hack/e2e/run.sh makes them", dir)
	}
	return runs, nil
}

// row writes a row of a table.
func row(w io.Writer, cells ...string) {
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(c, "|", `\|`)
	}
	fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
}

// header writes the first rows of a table with a column for each run.
func header(w io.Writer, first string, runs []run) {
	cells := []string{first}
	for _, r := range runs {
		cells = append(cells, r.String())
	}
	row(w, cells...)
	fmt.Fprintln(w, "|"+strings.Repeat("---|", len(cells)))
}

func write(w io.Writer, runs []run) {
	fmt.Fprint(w, `# Upstream's end-to-end tests

What Kubernetes' own tests of services say of svcproxy, and of kube-proxy on the same machines. Tests that are marked
Disruptive, Serial, Slow or Feature are left out. This file is made by `+"`make conformance`"+` out of what `+"`make e2e`"+` kept;
`+"`hack/e2e/run.sh`"+` says which tests it selects.

`)
	header(w, "", runs)
	for _, s := range suites {
		cells := []string{s.title}
		for _, r := range runs {
			cells = append(cells, summary(r.suites[s.file]))
		}
		row(w, cells...)
	}
	for _, key := range []string{"proxy", "tests", "cluster", "nodes", "system", "date"} {
		cells := []string{key}
		for _, r := range runs {
			cells = append(cells, r.about[key])
		}
		row(w, cells...)
	}
	for _, s := range suites {
		tests := map[string]bool{}
		for _, r := range runs {
			for name := range r.suites[s.file].tests {
				tests[name] = true
			}
		}
		if len(tests) > 0 {
			writeSuite(w, s.title, s.file, slices.Sorted(maps.Keys(tests)), runs)
		}
	}
}

func summary(s suite) string {
	if s.tests == nil {
		return "not run"
	}
	text := fmt.Sprintf("%d pass", s.count("pass"))
	for _, state := range []string{"fail", "skip"} {
		if n := s.count(state); n > 0 {
			text += fmt.Sprintf(", %d %s", n, state)
		}
	}
	return fmt.Sprintf("%s, in %s", text, s.took.Round(time.Second))
}

func writeSuite(w io.Writer, title, file string, names []string, runs []run) {
	fmt.Fprintf(w, "\n## %s%s\n\n", strings.ToUpper(title[:1]), title[1:])
	header(w, "test", runs)
	reasons := map[string][]string{} // by test and why, the runs
	var order []string
	for _, name := range names {
		cells := []string{name}
		for _, r := range runs {
			o, ran := r.suites[file].tests[name]
			switch {
			case !ran:
				cells = append(cells, "not run")
				continue
			case o.state == "fail":
				cells = append(cells, "**fail**")
			default:
				cells = append(cells, o.state)
			}
			if o.state == "pass" {
				continue
			}
			why := fmt.Sprintf("%s: %s", name, firstLine(o.why))
			if reasons[why] == nil {
				order = append(order, why)
			}
			reasons[why] = append(reasons[why], r.String())
		}
		row(w, cells...)
	}
	if len(order) > 0 {
		fmt.Fprint(w, "\nWhy not all pass:\n\n")
	}
	for _, why := range order {
		fmt.Fprintf(w, "- %s (%s)\n", why, strings.Join(reasons[why], "; "))
	}
}

// writeLatency copies what hack/cluster/prove.sh measured.
func writeLatency(w io.Writer, text string) {
	fmt.Fprint(w, `
## From a new endpoint to the kernel of every node

From the event of the EndpointSlice to the commit of its rules, on the nft backend, by `+"`hack/cluster/prove.sh latency`"+`: the
proxies take each other's place on the running cluster, in turn.

`)
	for line := range strings.Lines(text) {
		fmt.Fprintf(w, "    %s", line)
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimRight(line, " :")
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: report RESULTS")
		os.Exit(2)
	}
	runs, err := readRuns(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
	write(os.Stdout, runs)
	latency, err := os.ReadFile(filepath.Join(os.Args[1], "latency"))
	if err != nil {
		return // not measured
	}
	writeLatency(os.Stdout, string(latency))
}
