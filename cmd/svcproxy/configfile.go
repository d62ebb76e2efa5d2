package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	yamlreader "k8s.io/apimachinery/pkg/util/yaml"
	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// decodeConfiguration reads a KubeProxyConfiguration from YAML or JSON. A field
// that is not known, or is there twice, is an error: kube-proxy would leave it
// out and go on. What is empty stays empty.
func decodeConfiguration(text []byte) (*configuration, error) {
	doc, err := onlyDocument(text)
	if err != nil {
		return nil, err
	}
	raw, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return nil, err
	}
	c := &configuration{}
	unknown, err := strictjson.UnmarshalStrict(raw, c)
	if err != nil {
		return nil, locate(raw, err)
	}
	if want := kubeproxy.SchemeGroupVersion.String(); c.Kind != "KubeProxyConfiguration" || c.APIVersion != want {
		return nil, fmt.Errorf("apiVersion: %q, kind: %q: must be %s, KubeProxyConfiguration", c.APIVersion, c.Kind, want)
	}
	return c, utilerrors.NewAggregate(unknown)
}

// onlyDocument returns the one YAML document of a file.
func onlyDocument(text []byte) ([]byte, error) {
	// The reader loses a last line without end whose length is a multiple of its
	// buffer's.
	docs := yamlreader.NewYAMLReader(bufio.NewReader(bytes.NewReader(slices.Concat(text, []byte("\n")))))
	var only []byte
	for {
		doc, err := docs.Read()
		switch {
		case errors.Is(err, io.EOF):
			return only, nil
		case err != nil:
			return nil, err
		case len(bytes.TrimSpace(doc)) == 0:
		case only != nil:
			return nil, errors.New("holds more than one document")
		default:
			only = doc
		}
	}
}

// locate adds to an error of decoding which field it is about: the first one
// that cannot be read by itself. Types that read their own text do not say it.
func locate(raw []byte, err error) error {
	var doc any
	if json.Unmarshal(raw, &doc) != nil {
		return err
	}
	path, value, found := firstUnreadable(doc, "", func(v any) any { return v })
	if !found {
		return err
	}
	return fmt.Errorf("%s: %v: %w", path, value, err)
}

// firstUnreadable looks through the leaves of a document. within puts a value in
// its place in a document that holds nothing else.
func firstUnreadable(v any, path string, within func(any) any) (at string, value any, found bool) {
	object, ok := v.(map[string]any)
	if !ok {
		raw, err := json.Marshal(within(v))
		if err != nil {
			return "", nil, false
		}
		return path, v, strictjson.UnmarshalCaseSensitivePreserveInts(raw, &configuration{}) != nil
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		in := func(v any) any { return within(map[string]any{key: v}) }
		if at, value, found := firstUnreadable(object[key], join(path, key), in); found {
			return at, value, true
		}
	}
	return "", nil, false
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// writeConfiguration writes the configuration in force to a file that --config
// reads. A file has no word for an address that is not served.
func (o *options) writeConfiguration() error {
	for _, field := range []struct{ name, value string }{
		{"healthzBindAddress", o.settings.HealthzBindAddress},
		{"metricsBindAddress", o.settings.MetricsBindAddress},
	} {
		if field.value == "" {
			return usagef("--write-config-to: %s is empty, which a file takes for the default", o.nameOf(field.name))
		}
	}
	text, err := yaml.Marshal(o.settings.configuration)
	if err != nil {
		return fmt.Errorf("--write-config-to: %w", err)
	}
	if err := os.WriteFile(o.writeConfigTo, text, 0o644); err != nil {
		return fmt.Errorf("--write-config-to: %w", err)
	}
	return nil
}
