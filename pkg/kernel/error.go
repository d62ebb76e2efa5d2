package kernel

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"svcproxy/pkg/rules"
)

// RestoreError is a transaction that iptables-restore refused. Its table is as
// it was before.
type RestoreError struct {
	Family rules.Family
	Table  rules.TableName
	Exit   int
	Line   int    // of the input, from 1; 0: not said
	Text   string // the input at that line; empty: not said
	Stderr string
}

func (e *RestoreError) Error() string {
	at := ""
	if e.Line > 0 {
		at = fmt.Sprintf(" at line %d (%s)", e.Line, e.Text)
	}
	return fmt.Sprintf("restore of table %s refused%s: exit status %d: %s", e.Table, at, e.Exit, e.Stderr)
}

// lineNumber matches every way in which both backends name a line: "line 4
// failed", "line: 4", "line 4: CHAIN_DEL failed", "Error occurred at line: 4".
var lineNumber = regexp.MustCompile(`\bline:? (\d+)`)

func newRestoreError(f rules.Family, t rules.TableName, exit int, input, stderr []byte) *RestoreError {
	e := &RestoreError{Family: f, Table: t, Exit: exit, Stderr: strings.Join(strings.Fields(string(stderr)), " ")}
	m := lineNumber.FindSubmatch(stderr)
	if m == nil {
		return e
	}
	lines := bytes.Split(input, []byte("\n"))
	if n, err := strconv.Atoi(string(m[1])); err == nil && n >= 1 && n <= len(lines) {
		e.Line, e.Text = n, string(lines[n-1])
	}
	return e
}
