package lab

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

const runbook = "../../docs/troubleshooting.md"

var update = flag.Bool("update", false, "write the documents anew by what was seen")

const runbookHead = `# When a Service does not work

Ask the node where the client is:

    svcproxy trace --to NAMESPACE/SERVICE            # from the node itself
    svcproxy trace --to NAMESPACE/SERVICE --from IP  # from a pod or a client outside

In svcproxy's pod on that node:

    pod=$(kubectl -n kube-system get pods -l app=svcproxy --field-selector=spec.nodeName=NODE -o name)
    kubectl -n kube-system exec $pod -- svcproxy trace --to NAMESPACE/SERVICE

It says whether the packet arrives, and if not, the first reason that it meets. Below, each reason is
shown once or more in a set-up that was really made: on hosts in network namespaces, with flannel's VXLAN
between them, a client that did not get through, what trace said there, and what to do.
TestTraceTellsWhatIsBroken in hack/lab makes them all and writes this page, so what stands here is what
the command says. [docs/trace.md](trace.md) explains the whole output.

Two things trace cannot see: what other nodes do with the packet, for which it is run there; and rules
that were made by nft itself rather than by iptables (` + "`nft list ruleset`" + ` shows those).

`

// checkRunbook compares the page with what was said, or writes it.
func checkRunbook(t *testing.T, setups []setup, said []told) {
	t.Helper()
	text := runbookHead + runbookTable(setups) + runbookSections(setups, said)
	if *update {
		if err := os.WriteFile(runbook, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(runbook)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(have), text); diff != "" {
		t.Errorf("docs/troubleshooting.md is not what trace says (go test ./hack/lab -run Broken -update writes it; -page +said):\n%s", diff)
	}
}

func runbookTable(setups []setup) string {
	var b strings.Builder
	b.WriteString("| What people see | Reason | |\n|---|---|---|\n")
	for i, s := range setups {
		fmt.Fprintf(&b, "| %s | %s | [%d](#%s) |\n", s.symptom, reasonCell(&s), i+1, anchor(i, &s))
	}
	return b.String()
}

func reasonCell(s *setup) string {
	if s.reason == "" {
		return "an error"
	}
	return "`" + s.reason + "`"
}

func heading(i int, s *setup) string { return fmt.Sprintf("%d. %s", i+1, upperFirst(s.symptom)) }

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// anchor is what GitHub makes of a heading.
func anchor(i int, s *setup) string {
	text := strings.ToLower(heading(i, s))
	text = regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(text, "")
	return strings.ReplaceAll(text, " ", "-")
}

func runbookSections(setups []setup, said []told) string {
	var b strings.Builder
	for i, s := range setups {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", heading(i, &s), s.how)
		if s.cause != "" {
			fmt.Fprintf(&b, "\n%s", indented(shown(s.cause)))
		}
		fmt.Fprintf(&b, "\n%s says:\n\n", cmp.Or(s.host, "centos100"))
		fmt.Fprintf(&b, "    # svcproxy %s\n%s", strings.Join(traceArguments(&s), " "), indented(fold(steady(said[i].Sentence))))
		for j, r := range said[i].Reasons {
			fmt.Fprintf(&b, "\nReason `%s`", r.Code)
			if j > 0 { // the sentence above is the first one's
				b.WriteString(": " + steady(r.Sentence))
			}
			fmt.Fprintf(&b, "\nLook at `%s`.\n", strings.Join(r.Look, "`, `"))
		}
		fmt.Fprintf(&b, "\nWhat to do: %s\n", s.todo)
	}
	return b.String()
}

// shown writes commands with the words that a reader would type.
func shown(commands string) string {
	return strings.NewReplacer("$OTHER_IPTABLES", "iptables-legacy", "$IPTABLES", "iptables", "$SVCPROXY", "$(pidof svcproxy)").Replace(commands)
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}

// fold breaks a sentence into lines.
func fold(text string) string {
	const width = 100
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return strings.Join(append(lines, line), "\n") + "\n"
}

// steady replaces what differs from run to run: the folder of the scene, how far the
// kernel has come with asking for a neighbour, and when something happened.
func steady(text string) string {
	for pattern, with := range map[string]string{
		`/run/svcproxy-test-[a-z-]+/objects`: "DIR",
		`INCOMPLETE`:                         "FAILED",
		`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`:    "2026-11-24T09:12:31Z",
		`\d+ seconds more`:                   "299 seconds more",
		`line \d+: RULE`:                     "line 19: RULE",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, with)
	}
	return text
}
