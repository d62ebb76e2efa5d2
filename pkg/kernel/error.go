package kernel

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"svcproxy/pkg/rules"
)

// RestoreError is a transaction that iptables-restore did not carry out. Its table
// is as it was before.
type RestoreError struct {
	Family rules.Family
	Table  rules.TableName
	Exit   int
	Done   int      // of an Apply: how many transactions of the plan are in the kernel
	Line   int      // of the input, from 1; 0: not said
	Text   string   // the input at that line; empty: not said
	More   []string // the input at further lines that were named: nft names all
	Stderr string   // on one line, and no longer than a message may be
}

func (e *RestoreError) Error() string {
	what, at := "refused", ""
	if !e.Refused() {
		what = "failed"
	}
	if e.Line > 0 {
		at = fmt.Sprintf(" at line %d (%s)", e.Line, e.Text)
	}
	return fmt.Sprintf("restore of table %s %s%s: exit status %d: %s", e.Table, what, at, e.Exit, e.Stderr)
}

// Lines returns the input at all lines that were named.
func (e *RestoreError) Lines() []string {
	if e.Line == 0 {
		return nil
	}
	return append([]string{e.Text}, e.More...)
}

// unable matches what the commands say when it is not the input that they cannot
// do with: the lock is held or cannot be made, the rights are missing, the table
// cannot be used at all, memory, disk or file descriptors are used up. The exit
// status does not tell: 4 is all of that, and a rule that the nft backend refused.
var unable = regexp.MustCompile(`xtables lock|lock file|you must be root|generation id|nitialize (iptables |ip6tables )?table|` +
	`Failed to initialize nft|emory|Resource temporarily unavailable|No space left on device|No buffer space|Too many open files|` +
	`Read-only file system|Interrupted system call|Input/output error`)

// Refused reports whether it was the input that was refused, by the command or by
// the kernel: then other input may be taken, and the same one may be once more only
// if the kernel or the table has changed. Otherwise the time was bad for any input.
// A command that was killed, ran out of time or could not be run is no RestoreError.
func (e *RestoreError) Refused() bool { return !unable.MatchString(e.Stderr) }

// lineNumber matches every way in which both backends name a line: "line 4
// failed", "line: 4", "line 4: CHAIN_DEL failed", "Error occurred at line: 4".
var lineNumber = regexp.MustCompile(`\bline:? (\d+)`)

// maxStderr bounds what is kept of a message; nft may write a line for each rule.
const maxStderr = 400

func newRestoreError(f rules.Family, t rules.TableName, exit int, input, stderr []byte) *RestoreError {
	e := &RestoreError{Family: f, Table: t, Exit: exit, Stderr: strings.Join(strings.Fields(string(stderr)), " ")}
	if len(e.Stderr) > maxStderr {
		e.Stderr = strings.ToValidUTF8(e.Stderr[:maxStderr], "") + " ..."
	}
	lines := bytes.Split(input, []byte("\n"))
	for _, m := range lineNumber.FindAllSubmatch(stderr, -1) {
		n, err := strconv.Atoi(string(m[1]))
		switch {
		case err != nil || n < 1 || n > len(lines):
		case e.Line == 0:
			e.Line, e.Text = n, string(lines[n-1])
		default:
			e.More = append(e.More, string(lines[n-1]))
		}
	}
	return e
}
