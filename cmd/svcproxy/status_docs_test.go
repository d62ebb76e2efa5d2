package main

import (
	"encoding"
	"reflect"
	"regexp"
	"strings"
	"testing"

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
	fields := jsonNames(reflect.TypeFor[status.Report]())
	for name := range fields {
		if !told[name] {
			t.Errorf("no row tells of %s", name)
		}
	}
	for name := range told {
		if !fields[name] {
			t.Errorf("there is no field %s", name)
		}
	}
}

// The pages of trace, diff and quarantine have every field of the JSON for programs.
func TestDocumentsHaveEveryField(t *testing.T) {
	for page, of := range map[string]reflect.Type{
		"trace.md": reflect.TypeFor[traceReport](), "diff.md": reflect.TypeFor[diffReport](), "quarantine.md": reflect.TypeFor[quarantined](),
	} {
		doc := readDoc(t, page)
		names := jsonNames(of)
		if len(names) < 8 {
			t.Errorf("%s: only %v", page, names)
		}
		for name := range names {
			if !regexp.MustCompile("[`.]" + name + `(\[\])?` + "[`.]").MatchString(doc) {
				t.Errorf("docs/%s has no field %s", page, name)
			}
		}
	}
}

// jsonNames returns the name of each field within a type, however deep.
func jsonNames(t reflect.Type) map[string]bool {
	names, seen := map[string]bool{}, map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		switch {
		case t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice:
			walk(t.Elem())
		case t.Kind() == reflect.Struct && !seen[t] && !t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
			seen[t] = true
			for field := range t.Fields() {
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				if name == "-" || !field.IsExported() {
					continue
				}
				if name != "" {
					names[name] = true
				}
				walk(field.Type)
			}
		}
	}
	walk(t)
	return names
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
