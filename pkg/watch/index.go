package watch

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"svcproxy/pkg/rules"
)

// key names a Service.
type key struct{ namespace, name string }

func keyOf(s *corev1.Service) key { return key{s.Namespace, s.Name} }

// serviceOf returns the Service that a slice belongs to; ok is false for a slice
// that belongs to none.
func serviceOf(s *discoveryv1.EndpointSlice) (k key, ok bool) {
	name := s.Labels[discoveryv1.LabelServiceName]
	return key{s.Namespace, name}, name != ""
}

// joined is a Service and its slices, as they came and as they were converted.
type joined struct {
	service  *corev1.Service // nil: not seen (yet)
	slices   map[string]*discoveryv1.EndpointSlice
	value    *rules.Service
	problems []Problem
}

// index joins Services and slices and converts what changed when a snapshot is
// asked for. It is safe for concurrent use.
type index struct {
	nodeName      string
	reportOrphans bool // a slice whose Service is missing is a problem

	mu       sync.Mutex
	node     *corev1.Node
	services map[key]*joined
	dirty    map[key]bool
	sorted   []*rules.Service
}

func newIndex(nodeName string) *index {
	return &index{nodeName: nodeName, services: map[key]*joined{}, dirty: map[key]bool{}}
}

// at returns the entry for k and marks it for conversion. The caller holds mu.
func (x *index) at(k key) *joined {
	j := x.services[k]
	if j == nil {
		j = &joined{slices: map[string]*discoveryv1.EndpointSlice{}}
		x.services[k] = j
	}
	x.dirty[k] = true
	return j
}

func (x *index) setService(s *corev1.Service) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at(keyOf(s)).service = s
}

func (x *index) deleteService(k key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at(k).service = nil
}

func (x *index) setSlice(s *discoveryv1.EndpointSlice) {
	if k, ok := serviceOf(s); ok {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.at(k).slices[s.Name] = s
	}
}

func (x *index) deleteSlice(s *discoveryv1.EndpointSlice) {
	if k, ok := serviceOf(s); ok {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.at(k).slices, s.Name)
	}
}

// setNode takes the own Node; nil if there is none.
func (x *index) setNode(n *corev1.Node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.node = n
}

// replace takes a whole new set of objects.
func (x *index) replace(services []*corev1.Service, eps []*discoveryv1.EndpointSlice, node *corev1.Node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for k := range x.services {
		j := x.at(k)
		j.service = nil
		clear(j.slices)
	}
	for _, s := range services {
		x.at(keyOf(s)).service = s
	}
	for _, s := range eps {
		if k, ok := serviceOf(s); ok {
			x.at(k).slices[s.Name] = s
		}
	}
	x.node = node
}

// snapshot converts what changed and returns everything.
func (x *index) snapshot() (*rules.Snapshot, []Problem) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.dirty) > 0 {
		x.convert()
	}
	snap := &rules.Snapshot{Services: x.sorted}
	var all []Problem
	snap.Node, all = convertNode(x.nodeName, x.node)
	for _, j := range x.services {
		all = append(all, j.problems...)
	}
	return snap, sortProblems(all)
}

func (x *index) convert() {
	for k := range x.dirty {
		j := x.services[k]
		if j.service == nil && len(j.slices) == 0 {
			delete(x.services, k)
			continue
		}
		x.convertOne(k, j)
	}
	clear(x.dirty)
	sorted := make([]*rules.Service, 0, len(x.services))
	for _, j := range x.services {
		if j.value != nil {
			sorted = append(sorted, j.value)
		}
	}
	slices.SortFunc(sorted, func(a, b *rules.Service) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	x.sorted = sorted
}

// convertOne keeps the old value if nothing came of the change.
func (x *index) convertOne(k key, j *joined) {
	if j.service == nil {
		j.value, j.problems = nil, nil
		for _, s := range j.slices {
			if x.reportOrphans {
				j.problems = append(j.problems, Problem{Object: s.Namespace + "/" + s.Name,
					Field: "metadata.labels[" + discoveryv1.LabelServiceName + "]", Value: k.name, Reason: "there is no such Service"})
			}
		}
		return
	}
	eps := make([]*discoveryv1.EndpointSlice, 0, len(j.slices))
	for _, s := range j.slices {
		eps = append(eps, s)
	}
	value, ps := convertService(j.service, eps)
	j.problems = ps
	if !reflect.DeepEqual(value, j.value) {
		j.value = value
	}
}
