package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A block of docs/rules.md that names a golden shows rules that are in it, and
// every chain of every golden is explained.
func TestRulesDocument(t *testing.T) {
	doc := readDoc(t, "rules.md")
	shown := regexp.MustCompile("(?s)```([a-z-]+)\n(.*?)```").FindAllStringSubmatch(doc, -1)
	if len(shown) < 20 {
		t.Errorf("only %d blocks were found", len(shown))
	}
	for _, block := range shown {
		a, err := txtar.ParseFile("testdata/" + block[1] + ".txtar")
		if err != nil {
			t.Error(err)
			continue
		}
		for rule := range strings.Lines(block[2]) {
			if !strings.Contains(string(section(a, "stdout")), rule) {
				t.Errorf("not in golden %s: %s", block[1], rule)
			}
		}
	}
	goldens, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range goldens {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^:(KUBE-(?:(?:SVC|SVL|SEP|EXT|FW)-|[A-Z-]+))`).FindAllStringSubmatch(string(section(a, "stdout")), -1) {
			if !strings.Contains(doc, "**"+m[1]+"**") {
				t.Errorf("%s: chain %s is not explained", path, m[1])
			}
		}
	}
}

// docs/features.md names every flag of kube-proxy and says of those that do
// nothing that they are merely accepted; it names every field of the objects and
// of the configuration that has no flag.
func TestFeaturesDocument(t *testing.T) {
	doc := readDoc(t, "features.md")
	text, err := os.ReadFile("testdata/kube-proxy-flags.txt")
	if err != nil {
		t.Fatal(err)
	}
	own := newCommand(strings.NewReader(""))
	own.InitDefaultHelpFlag()
	own.InitDefaultVersionFlag()
	for _, flag := range strings.Fields(string(text)) {
		row := regexp.MustCompile("(?m)^\\| `--" + flag + "` \\| (yes|accepted)\\b").FindStringSubmatch(doc)
		if row == nil {
			t.Errorf("no row says what becomes of --%s", flag)
		} else if f := own.Flags().Lookup(flag); f == nil || f.Hidden != (row[1] == "accepted") {
			t.Errorf("the row of --%s says %s, and svcproxy has %+v", flag, row[1], f)
		}
	}
	for _, object := range []any{
		corev1.ServiceSpec{}, corev1.ServiceStatus{}, corev1.ServicePort{}, corev1.LoadBalancerIngress{},
		discoveryv1.EndpointSlice{}, discoveryv1.Endpoint{}, discoveryv1.EndpointConditions{}, discoveryv1.EndpointHints{},
		discoveryv1.EndpointPort{}, networkingv1.ServiceCIDRSpec{},
	} {
		for _, field := range fieldsOf(object) {
			if !regexp.MustCompile("`([a-z.A-Z]+\\.)?" + field + "[`.]").MatchString(doc) {
				t.Errorf("no row names %s of %T", field, object)
			}
		}
	}
}

// Every field of the configuration has a flag, or docs/features.md names it.
func TestFeaturesDocumentHasTheConfiguration(t *testing.T) {
	doc := readDoc(t, "features.md")
	var flagged []string
	for _, field := range flagFields() {
		flagged = append(flagged, field)
	}
	for _, path := range leaves(asJSON(&configuration{FeatureGates: map[string]bool{"A": true}}), "") {
		top, _, _ := strings.Cut(path, ".")
		named := strings.Contains(doc, "`"+path+"`") || strings.Contains(doc, "`"+top+"`")
		if !slices.Contains(flagged, path) && !named && top != "featureGates" && top != "logging" {
			t.Errorf("nothing says what becomes of %s", path)
		}
	}
}

// leaves lists the paths of all that is no object.
func leaves(v any, path string) []string {
	object, ok := v.(map[string]any)
	if !ok {
		return []string{path}
	}
	var out []string
	for key, v := range object {
		out = append(out, leaves(v, join(path, key))...)
	}
	return out
}

// fieldsOf lists the fields of an API type as they are spelled in objects.
func fieldsOf(object any) []string {
	var out []string
	for f := range reflect.TypeOf(object).Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && !slices.Contains([]string{"metadata", "kind", "apiVersion"}, name) {
			out = append(out, name)
		}
	}
	return out
}
