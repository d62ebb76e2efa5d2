package main

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"svcproxy/pkg/status"
)

// docs/status.md has every field of the JSON and no other.
func TestStatusDocumentHasEveryField(t *testing.T) {
	_, table, _ := strings.Cut(readDoc(t, "status.md"), "### Fields")
	told := map[string]bool{}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) < 4 {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			parts := strings.FieldsFunc(m[1], func(r rune) bool { return strings.ContainsRune(".[]…", r) })
			for _, name := range parts {
				told[name] = true
			}
		}
	}
	var fields []string
	jsonNames(reflect.TypeFor[status.Report](), func(name string) { fields = append(fields, name) })
	for _, name := range fields {
		if !told[name] {
			t.Errorf("no row tells of %s", name)
		}
	}
	for name := range told {
		if !slices.Contains(fields, name) {
			t.Errorf("there is no field %s", name)
		}
	}
}

// jsonNames calls f for the name of each field within a type.
func jsonNames(t reflect.Type, f func(string)) {
	switch {
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice:
		jsonNames(t.Elem(), f)
	case t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]():
		for field := range t.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			f(name)
			jsonNames(field.Type, f)
		}
	}
}

// inDocument is what a command printed, without what differs each time.
func inDocument(text string) string {
	for _, r := range []struct{ pattern, word string }{
		{`\d+(\.\d+)?(ms|µs|s)\b`, "1s"}, {`\d+\.\d%`, "1%"}, {`(% +)\d+`, "${1}1"}, {` +`, " "}, {`svcproxy \S+,`, "svcproxy,"}, {`\d+ nat and \d+`, "1 nat and 1"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.word)
	}
	return strings.TrimSpace(text)
}

// checkDocument looks for what a command line printed in docs/status.md.
func checkDocument(t *testing.T, line, printed string) {
	t.Helper()
	_, block, ok := strings.Cut(readDoc(t, "status.md"), "```\n$ "+line+"\n")
	block, _, _ = strings.Cut(block, "```")
	if !ok || inDocument(block) != inDocument(printed) {
		t.Errorf("docs/status.md does not show what `%s` prints:\n%s", line, printed)
	}
}
