// Package rulestest checks that what goes to iptables holds what it should and
// nothing else, whatever names and addresses it was made of.
package rulestest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"svcproxy/pkg/rules"
)

// CheckRestore fails the test unless the input for iptables-restore that loads a
// ruleset is, line by line, one command each of the ruleset's own, and reads back as
// that ruleset.
func CheckRestore(t testing.TB, want *rules.Ruleset) {
	t.Helper()
	none := &rules.Ruleset{Family: want.Family}
	for _, maxChains := range []int{0, 3} {
		plan := rules.NewPlan(none, want, maxChains)
		var all []byte
		for i := range plan.Transactions {
			tx := &plan.Transactions[i]
			text := rules.RenderTransaction(want.Family, tx)
			if err := checkLines(string(text), tx); err != nil {
				t.Fatalf("%s: %v", want.Family, err)
			}
			all = append(all, text...)
		}
		if err := checkReads(all, want); err != nil {
			t.Fatalf("%s: %v", want.Family, err)
		}
	}
	for _, j := range want.Jumps {
		if err := checkArgs(j.Rule.Args(want.Family)); err != nil {
			t.Fatalf("%s: the jump from %s: %v", want.Family, j.Chain, err)
		}
	}
	for _, table := range want.Tables {
		for _, c := range table.Chains {
			for i := range c.Rules {
				if err := checkArgs(c.Rules[i].Args(want.Family)); err != nil {
					t.Fatalf("%s: chain %s: %v", want.Family, c.Name, err)
				}
			}
		}
	}
}

// The lines of a restore, but for those with a rule.
var (
	tableLine   = regexp.MustCompile(`^\*(filter|nat)$`)
	declareLine = regexp.MustCompile(`^:` + chainName + ` - \[0:0\]$`)
	removeLine  = regexp.MustCompile(`^-X ` + chainName + `$`)
	ruleLine    = regexp.MustCompile(`^-[AI] ` + chainName + ` [ -~]+$`)
)

const chainName = `[A-Z][A-Za-z0-9-]{0,27}`

// checkLines compares the lines of a transaction with the commands in it, in number
// and form.
func checkLines(text string, tx *rules.Transaction) error {
	lines := strings.Split(text, "\n")
	ruleLines := len(tx.Jumps)
	for _, c := range tx.Write {
		ruleLines += len(c.Rules)
	}
	sections := []struct {
		form *regexp.Regexp
		n    int
	}{
		{tableLine, 1}, {declareLine, len(tx.Write) + len(tx.Delete)}, {ruleLine, ruleLines}, {removeLine, len(tx.Delete)},
		{regexp.MustCompile(`^COMMIT$`), 1}, {regexp.MustCompile(`^$`), 1},
	}
	n := 0
	for _, s := range sections {
		for range s.n {
			if n >= len(lines) || !s.form.MatchString(lines[n]) {
				return fmt.Errorf("line %d is not of the form %s: %q", n+1, s.form, lines[min(n, len(lines)-1)])
			}
			if s.form == ruleLine {
				_, spec, _ := strings.Cut(lines[n][len("-A "):], " ")
				if err := checkSpec(spec); err != nil {
					return fmt.Errorf("line %d: %w", n+1, err)
				}
			}
			n++
		}
	}
	if n != len(lines) {
		return fmt.Errorf("%d lines more than commands", len(lines)-n)
	}
	return nil
}

// builtins are the built-in chains, which a restore does not declare.
const builtins = `*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
`

// checkReads compares what a text reads as with the ruleset.
func checkReads(text []byte, want *rules.Ruleset) error {
	tables, err := rules.ParseSave(append([]byte(builtins), text...), want.Family)
	if err != nil {
		return err
	}
	got := rules.Own(want.Family, tables)
	for _, table := range want.Tables {
		chains := got.Table(table.Name).Chains
		if len(chains) != len(table.Chains) {
			return fmt.Errorf("table %s reads back with %d chains instead of %d", table.Name, len(chains), len(table.Chains))
		}
		for i, c := range chains {
			if w := table.Chains[i]; c.Name != w.Name || !slices.Equal(c.Rules, w.Rules) {
				return fmt.Errorf("chain %s reads back as %s %v", w.Name, c.Name, c.Rules)
			}
		}
	}
	for _, j := range want.Jumps {
		same := func(other rules.Jump) bool {
			return other.Table == j.Table && other.Chain == j.Chain && other.Rule == j.Rule
		}
		if !slices.ContainsFunc(got.Jumps, same) {
			return fmt.Errorf("the jump %v is not among %v", j, got.Jumps)
		}
	}
	if len(got.Jumps) != len(want.Jumps) {
		return fmt.Errorf("%d jumps read back as %d", len(want.Jumps), len(got.Jumps))
	}
	return nil
}

// checkSpec compares the words of a line with the options that rules have.
func checkSpec(spec string) error {
	return checkArgs(Words(spec))
}

// checkArgs fails for anything but known options, each with a value if it takes one.
func checkArgs(args []string) error {
	options := values()
	for i := 0; i < len(args); i++ {
		takes, known := options[args[i]]
		if !known {
			return fmt.Errorf("%q is no option that a rule has, in %q", args[i], args)
		}
		if i += takes; i >= len(args) {
			return fmt.Errorf("%q lacks a value, in %q", args[i-takes], args)
		}
		if strings.ContainsFunc(args[i], func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("%q holds a control character", args[i])
		}
	}
	return nil
}

// values is how many values each option takes.
func values() map[string]int {
	return map[string]int{
		"!": 0, "--set": 0, "--rcheck": 0, "--reap": 0, "--rsource": 0, "--random-fully": 0,
		"-s": 1, "-d": 1, "-i": 1, "-p": 1, "-m": 1, "-j": 1, "-g": 1, "--comment": 1, "--src-type": 1, "--dst-type": 1, "--ctstate": 1,
		"--mark": 1, "--mode": 1, "--probability": 1, "--seconds": 1, "--name": 1, "--dport": 1, "--to-destination": 1,
		"--set-xmark": 1, "--reject-with": 1,
	}
}

// Words splits a line as iptables-restore does (add_param_to_argv): a quote may
// stand anywhere in a word, and a backslash counts inside quotes alone.
func Words(line string) []string {
	var words []string
	var word []byte
	quoted, escaped, begun := false, false, false
	end := func() {
		if begun || len(word) > 0 {
			words = append(words, string(word))
		}
		word, begun = nil, false
	}
	for i := range len(line) {
		switch c := line[i]; {
		case escaped:
			word, escaped = append(word, c), false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted, begun = !quoted, true
		case !quoted && (c == ' ' || c == '\t' || c == '\n'):
			end()
		default:
			word = append(word, c)
		}
	}
	end()
	return words
}
