package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// A block of docs/trace.md that names a golden is its command and what that prints.
func TestTraceDocument(t *testing.T) {
	doc := readDoc(t, "trace.md")
	block := regexp.MustCompile("(?s)```(trace-[a-z-]+)\n(.*?)```")
	found := 0
	want := block.ReplaceAllStringFunc(doc, func(text string) string {
		found++
		name := block.FindStringSubmatch(text)[1]
		a, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		command := "$ svcproxy " + lastLine(string(a.Comment)) + "\n"
		return "```" + name + "\n" + fromRoot(command+string(section(a, "stdout"))) + "```"
	})
	if found < 3 {
		t.Errorf("only %d blocks were found", found)
	}
	if *update {
		if err := os.WriteFile("../../docs/trace.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, doc); diff != "" {
		t.Errorf("what is printed (-) is not what is shown (+):\n%s", diff)
	}
}

// fromRoot names files from the repository's root, as people would.
func fromRoot(text string) string {
	return strings.NewReplacer("../../", "", "testdata/", "cmd/svcproxy/testdata/").Replace(text)
}

// Every code of a reason is explained.
func TestTraceDocumentHasTheReasons(t *testing.T) {
	doc := readDoc(t, "trace.md")
	var text []byte
	for _, file := range []string{"trace_reasons.go", "../../pkg/kernel/wire.go"} {
		more, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, more...)
	}
	codes := regexp.MustCompile(`(?m)^\t[A-Za-z]+ +(?:Reason )?= "([a-z-]+)"`).FindAllStringSubmatch(string(text), -1)
	if len(codes) < 35 {
		t.Errorf("only %d codes were found", len(codes))
	}
	for _, m := range codes {
		if !strings.Contains(doc, "| `"+m[1]+"` |") {
			t.Errorf("docs/trace.md has no row for %s", m[1])
		}
	}
}
