package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// apiServer answers what svcproxy asks: watches and lists of objects that a test sets. It
// keeps the Events it is sent.
type apiServer struct {
	mu      sync.Mutex
	objects []*unstructured.Unstructured
	changed map[string]chan *unstructured.Unstructured // by kind
	events  []*eventsv1.Event
}

// newAPIServer serves the objects of a List until the test ends, and returns the
// path of a kubeconfig for it.
func newAPIServer(t *testing.T, list []byte) (s *apiServer, kubeconfig string) {
	t.Helper()
	var read struct {
		Items []map[string]any `json:"items"`
	}
	if err := yaml.Unmarshal(list, &read); err != nil {
		t.Fatal(err)
	}
	s = &apiServer{changed: map[string]chan *unstructured.Unstructured{}}
	for _, item := range read.Items {
		o := &unstructured.Unstructured{Object: item}
		o.SetResourceVersion("1")
		s.objects = append(s.objects, o)
	}
	for _, kind := range kinds() {
		s.changed[kind] = make(chan *unstructured.Unstructured, 10)
	}
	srv := httptest.NewServer(s)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := `{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":"` + srv.URL +
		`"}}],"contexts":[{"name":"c","context":{"cluster":"c"}}]}`
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, kubeconfig
}

// kinds maps the last word of a path to a kind of objects.
func kinds() map[string]string {
	return map[string]string{"services": "Service", "nodes": "Node", "endpointslices": "EndpointSlice", "servicecidrs": "ServiceCIDR", "pods": "Pod"}
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := kinds()[path.Base(r.URL.Path)]
	switch {
	case r.Method == http.MethodPost:
		s.keep(w, r)
	case r.URL.Query().Get("watch") == "true":
		s.watch(w, r, kind)
	case kind != "":
		s.list(w, r, kind)
	default:
		http.Error(w, "not served", http.StatusNotFound)
	}
}

// list answers with the objects of a kind that selectors and the namespace leave.
func (s *apiServer) list(w http.ResponseWriter, r *http.Request, kind string) {
	s.mu.Lock()
	objects := s.objects
	s.mu.Unlock()
	name, byName := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	items := []any{}
	for _, o := range objects {
		in := !strings.Contains(r.URL.Path, "/namespaces/") || strings.Contains(r.URL.Path, "/namespaces/"+o.GetNamespace()+"/")
		if o.GetKind() == kind && in && (!byName || o.GetName() == name) && selector.Matches(labels.Set(o.GetLabels())) {
			items = append(items, o.Object)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": apiVersionOf(r), "kind": kind + "List", "metadata": map[string]any{"resourceVersion": "1"}, "items": items})
}

// apiVersionOf is the API version that a path is of.
func apiVersionOf(r *http.Request) string {
	path := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/apis/"), "/api/")
	parts := strings.Split(path, "/")
	if parts[0] == "v1" {
		return parts[0]
	}
	return strings.Join(parts[:2], "/")
}

// watch sends the objects first (KEP-3157), then those that change.
func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, kind string) {
	w.Header().Set("Content-Type", "application/json")
	send := func(event string, object any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": event, "object": object})
		_ = http.NewResponseController(w).Flush()
	}
	s.mu.Lock()
	objects := s.objects
	s.mu.Unlock()
	apiVersion := apiVersionOf(r)
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range objects {
			if o.GetKind() == kind {
				send("ADDED", o)
			}
		}
		send("BOOKMARK", map[string]any{"kind": kind, "apiVersion": apiVersion, "metadata": map[string]any{
			"resourceVersion": "1", "annotations": map[string]string{"k8s.io/initial-events-end": "true"},
		}})
	}
	for {
		select {
		case o := <-s.changed[kind]:
			send("MODIFIED", o)
		case <-r.Context().Done():
			return
		}
	}
}

// change tells of a change of an object.
func (s *apiServer) change(kind, name string, f func(*unstructured.Unstructured)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		if o.GetKind() == kind && o.GetName() == name {
			o = o.DeepCopy()
			o.SetResourceVersion("2")
			f(o)
			s.changed[kind] <- o
		}
	}
}

func (s *apiServer) keep(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		var o any
		if o, _, err = scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil); err == nil {
			s.mu.Lock()
			s.events = append(s.events, o.(*eventsv1.Event))
			s.mu.Unlock()
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write([]byte(`{"kind":"Event","apiVersion":"events.k8s.io/v1","metadata":{"name":"x","namespace":"default"}}`))
}

// told lists the Events so far: what each is about, type, reason, action and note.
func (s *apiServer) told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.events {
		about := e.Namespace + " " + e.Regarding.Kind + " " + e.Regarding.Name
		out = append(out, strings.Join([]string{about, e.Type, e.Reason, e.Action, e.Note, "by " + e.ReportingController}, ", "))
	}
	return out
}
