package watch

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Problem is a part of an object that cannot be used as it is. All the rest of
// the object, and all other objects, are used all the same.
type Problem struct {
	Object string // namespace/name, or a file and document
	Field  string
	Value  string
	Reason string
	// Skipped marks what is left out for a good reason and needs no correction,
	// such as a Service that has not got its cluster IP yet.
	Skipped bool
}

// Error returns "namespace/name field: value: reason", on one line.
func (p Problem) Error() string {
	return printable(p.Object) + " " + p.Field + ": " + printable(p.Value) + ": " + p.Reason
}

// printable quotes what would not stand out, or would break the line.
func printable(s string) string {
	odd := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '"' }
	if s == "" || strings.ContainsFunc(s, odd) {
		return strconv.Quote(s)
	}
	return s
}

func sortProblems(ps []Problem) []Problem {
	slices.SortFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			strings.Compare(a.Object, b.Object),
			strings.Compare(a.Field, b.Field),
			strings.Compare(a.Value, b.Value),
			strings.Compare(a.Reason, b.Reason))
	})
	return slices.Compact(ps)
}

// problems collects what is wrong with one object.
type problems struct {
	object string
	list   []Problem
}

func (p *problems) add(field, value, reason string) {
	p.list = append(p.list, Problem{Object: p.object, Field: field, Value: value, Reason: reason})
}
