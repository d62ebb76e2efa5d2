package watch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	yamlreader "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// objects is what one file holds.
type objects struct {
	services []*bareService
	slices   []*endpointSlice
	nodes    []*corev1.Node
	cidrs    []*networkingv1.ServiceCIDR
	problems []Problem
}

// decode reads a file of YAML documents or JSON. Objects of other kinds are
// passed over; a document or a list's item that cannot be read is a problem of
// its own and spoils nothing else. file is its name, for messages.
func decode(file string, text []byte) *objects {
	d := &decoder{file: file, out: &objects{}}
	d.each = d.take
	d.documents(text)
	return d.out
}

// documents hands over every object of a file.
func (d *decoder) documents(text []byte) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	// The reader loses a last line without end whose length is a multiple of its
	// buffer's.
	text = slices.Concat(text, []byte("\n"))
	docs := yamlreader.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		d.document = fmt.Sprintf("%s#%d", d.file, n)
		if err != nil {
			d.malformed(err)
			return
		}
		if !json.Valid(doc) { // JSON is YAML, too, which takes several times as long to read
			if doc, err = yaml.YAMLToJSON(doc); err != nil {
				d.malformed(err)
				continue
			}
		}
		d.object(doc, metav1.TypeMeta{})
	}
}

type decoder struct {
	file, document string
	out            *objects
	each           func(h *header, raw []byte) // is given each object that is no list
}

func (d *decoder) problem(object, field, value, reason string) {
	d.out.problems = append(d.out.problems, Problem{Object: object, Field: field, Value: value, Reason: reason})
}

func (d *decoder) malformed(err error) {
	d.problem(d.document, "document", "malformed", oneLine(err))
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// header is what every object has.
type header struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// object reads one object; unsaid is the type of one that does not say its own,
// as the items of a typed list need not.
func (d *decoder) object(raw []byte, unsaid metav1.TypeMeta) {
	if bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return
	}
	var h header
	if err := json.Unmarshal(raw, &h); err != nil {
		d.malformed(err)
		return
	}
	if h.Kind == "" && h.APIVersion == "" {
		h.TypeMeta = unsaid
	}
	switch h.APIVersion + " " + h.Kind {
	case "v1 List":
		d.items(h.Items, metav1.TypeMeta{})
	case "v1 ServiceList", "v1 NodeList", "v1 PodList", "networking.k8s.io/v1 ServiceCIDRList", "discovery.k8s.io/v1 EndpointSliceList":
		d.items(h.Items, metav1.TypeMeta{APIVersion: h.APIVersion, Kind: strings.TrimSuffix(h.Kind, "List")})
	default:
		d.each(&h, raw)
	}
}

// take takes in an object that counts for rules.
func (d *decoder) take(h *header, raw []byte) {
	switch h.APIVersion + " " + h.Kind {
	case "v1 Service":
		if s := read[corev1.Service](d, h, raw); s != nil {
			s.Namespace = defaultNamespace(s.Namespace)
			d.out.services = append(d.out.services, convertService(s))
		}
	case "discovery.k8s.io/v1 EndpointSlice":
		if s := read[discoveryv1.EndpointSlice](d, h, raw); s != nil {
			s.Namespace = defaultNamespace(s.Namespace)
			d.out.slices = append(d.out.slices, convertSlice(s))
		}
	case "v1 Node":
		if n := read[corev1.Node](d, h, raw); n != nil {
			d.out.nodes = append(d.out.nodes, n)
		}
	case "networking.k8s.io/v1 ServiceCIDR":
		if c := read[networkingv1.ServiceCIDR](d, h, raw); c != nil {
			d.out.cidrs = append(d.out.cidrs, c)
		}
	}
}

func (d *decoder) items(items []json.RawMessage, unsaid metav1.TypeMeta) {
	for _, raw := range items {
		d.object(raw, unsaid)
	}
}

// read decodes an object into its type; nil after a problem.
func read[T any](d *decoder, h *header, raw []byte) *T {
	out := new(T)
	err := json.Unmarshal(raw, out)
	if err == nil {
		return out
	}
	name := defaultNamespace(h.Metadata.Namespace) + "/" + h.Metadata.Name
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		d.problem(name, wrong.Field, wrong.Value, "must be of type "+wrong.Type.String()+"; the object is left out")
	} else {
		d.problem(name, h.Kind, h.Metadata.Name, oneLine(err)+"; the object is left out")
	}
	return nil
}

func defaultNamespace(ns string) string {
	if ns == "" {
		return metav1.NamespaceDefault
	}
	return ns
}
