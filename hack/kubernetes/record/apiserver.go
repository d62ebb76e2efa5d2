package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"

	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// objects are those of a case, as they are written there.
type objects struct {
	items []*unstructured.Unstructured
}

func readObjects(a *txtar.Archive) (*objects, error) {
	for _, f := range a.Files {
		if f.Name == "objects.yaml" {
			o := &objects{}
			var list struct {
				Items []map[string]any `json:"items"`
			}
			err := yaml.Unmarshal(f.Data, &list)
			for _, item := range list.Items {
				o.items = append(o.items, &unstructured.Unstructured{Object: item})
			}
			return o, err
		}
	}
	return nil, errors.New("no objects.yaml")
}

func (o *objects) node() *unstructured.Unstructured {
	for _, item := range o.items {
		if item.GetKind() == "Node" {
			return item
		}
	}
	return &unstructured.Unstructured{Object: map[string]any{}}
}

func (o *objects) nodeName() string { return o.node().GetName() }

// nodeAddresses returns the Node's addresses, its host name left out.
func (o *objects) nodeAddresses() []string {
	var out []string
	all, _, _ := unstructured.NestedSlice(o.node().Object, "status", "addresses")
	for _, entry := range all {
		if a, ok := entry.(map[string]any); ok && a["type"] != "Hostname" {
			out = append(out, fmt.Sprint(a["address"]))
		}
	}
	return out
}

// apiServer answers what kube-proxy asks: lists and watches of objects that never
// change. It takes events and forgets them.
type apiServer struct{ objects *objects }

// kinds of objects by the last word of a request's path.
func kindOf(resource string) (kind, apiVersion string) {
	switch resource {
	case "services":
		return "Service", "v1"
	case "nodes":
		return "Node", "v1"
	case "endpointslices":
		return "EndpointSlice", "discovery.k8s.io/v1"
	case "servicecidrs":
		return "ServiceCIDR", "networking.k8s.io/v1"
	}
	return "", ""
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	kind, apiVersion := kindOf(path.Base(r.URL.Path))
	switch {
	case r.Method == http.MethodPost:
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Success"}`))
	case kind == "":
		s.one(w, path.Base(r.URL.Path))
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, kind, apiVersion)
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{
			"kind": kind + "List", "apiVersion": apiVersion,
			"metadata": map[string]any{"resourceVersion": "1"}, "items": s.selected(r, kind),
		})
	}
}

// one answers a GET of the Node.
func (s *apiServer) one(w http.ResponseWriter, name string) {
	if name != s.objects.nodeName() {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`))
		return
	}
	_ = json.NewEncoder(w).Encode(s.objects.node().Object)
}

// selected returns the objects that the request's selectors choose.
func (s *apiServer) selected(r *http.Request, kind string) []map[string]any {
	q := r.URL.Query()
	byLabel, err1 := labels.Parse(q.Get("labelSelector"))
	byField, err2 := fields.ParseSelector(q.Get("fieldSelector"))
	out := []map[string]any{}
	for _, o := range s.objects.items {
		known := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
		clusterIP, _, _ := unstructured.NestedString(o.Object, "spec", "clusterIP")
		known["spec.clusterIP"] = clusterIP
		if o.GetKind() == kind && err1 == nil && err2 == nil && byLabel.Matches(labels.Set(o.GetLabels())) && byField.Matches(known) {
			c := o.DeepCopy()
			c.SetResourceVersion("1")
			c.SetUID("00000000-0000-0000-0000-000000000000")
			out = append(out, c.Object)
		}
	}
	return out
}

// watch sends the objects first if asked to (KEP-3157), then nothing until the
// client leaves.
func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, kind, apiVersion string) {
	out := json.NewEncoder(w)
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range s.selected(r, kind) {
			_ = out.Encode(map[string]any{"type": "ADDED", "object": o})
		}
		_ = out.Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{
			"kind": kind, "apiVersion": apiVersion, "metadata": map[string]any{
				"resourceVersion": "1", "annotations": map[string]any{"k8s.io/initial-events-end": "true"},
			},
		}})
	}
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}
