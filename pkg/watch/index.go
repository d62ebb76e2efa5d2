package watch

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"svcproxy/pkg/rules"
)

// key names a Service.
type key struct{ namespace, name string }

func (k key) String() string { return k.namespace + "/" + k.name }

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
	created  time.Time
	value    *rules.Service // as if there were no other Service
	problems []Problem

	settled   *rules.Service // without what other Services have
	conflicts []Problem
}

// index joins Services and slices and converts what changed when a snapshot is
// asked for. It is safe for concurrent use.
type index struct {
	nodeName      string
	reportOrphans bool // a slice whose Service is missing is a problem

	mu       sync.Mutex
	node     *corev1.Node
	cidrs    map[string]*networkingv1.ServiceCIDR
	services map[key]*joined
	dirty    map[key]bool
	claims   claims
	sorted   []*rules.Service
}

func newIndex(nodeName string) *index {
	return &index{nodeName: nodeName, cidrs: map[string]*networkingv1.ServiceCIDR{},
		services: map[key]*joined{}, dirty: map[key]bool{}, claims: claims{}}
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

func (x *index) setServiceCIDR(c *networkingv1.ServiceCIDR) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cidrs[c.Name] = c
}

func (x *index) deleteServiceCIDR(c *networkingv1.ServiceCIDR) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.cidrs, c.Name)
}

// replace takes a whole new set of objects.
func (x *index) replace(services []*corev1.Service, eps []*discoveryv1.EndpointSlice, node *corev1.Node, cidrs []*networkingv1.ServiceCIDR) {
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
	clear(x.cidrs)
	for _, c := range cidrs {
		x.cidrs[c.Name] = c
	}
}

// snapshot converts what changed and returns everything.
func (x *index) snapshot() (*rules.Snapshot, []Problem) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.dirty) > 0 {
		x.convert()
	}
	node, all := convertNode(x.nodeName, x.node)
	cidrs, ps := convertServiceCIDRs(slices.Collect(maps.Values(x.cidrs)), &node)
	snap := &rules.Snapshot{Node: node, Services: x.sorted, ServiceCIDRs: cidrs}
	all = append(all, ps...)
	for _, j := range x.services {
		all = append(append(all, j.problems...), j.conflicts...)
	}
	return snap, sortProblems(all)
}

// convert brings the Services that changed up to date, then those that want
// something of theirs.
func (x *index) convert() {
	unsettled := map[key]bool{}
	contested := func(k key) { unsettled[k] = true }
	for k := range x.dirty {
		j := x.services[k]
		before := *j
		if j.service == nil && len(j.slices) == 0 {
			delete(x.services, k)
			x.claims.replace(&before, &joined{}, k, contested)
			contested(k)
			continue
		}
		x.convertOne(k, j)
		if j.value != before.value || j.created != before.created {
			x.claims.replace(&before, j, k, contested)
			contested(k)
		}
	}
	clear(x.dirty)
	for k := range unsettled {
		if j := x.services[k]; j != nil {
			x.settle(k, j)
		}
	}
	x.sort(unsettled)
}

// sort puts the Services that may have changed in their places. Snapshots hold
// the old slice, so that is not written into.
func (x *index) sort(changed map[key]bool) {
	var come []*rules.Service
	for k := range changed {
		if j := x.services[k]; j != nil && j.settled != nil {
			come = append(come, j.settled)
		}
	}
	order := func(a, b *rules.Service) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	}
	slices.SortFunc(come, order)
	sorted := make([]*rules.Service, 0, len(x.sorted)+len(come))
	for _, s := range x.sorted {
		for len(come) > 0 && order(come[0], s) < 0 {
			sorted, come = append(sorted, come[0]), come[1:]
		}
		if !changed[key{s.Namespace, s.Name}] {
			sorted = append(sorted, s)
		}
	}
	x.sorted = append(sorted, come...)
	if len(x.sorted) == 0 {
		x.sorted = nil
	}
}

// settle keeps the old value if nothing came of the change.
func (x *index) settle(k key, j *joined) {
	settled, ps := x.claims.settle(k, j)
	j.conflicts = ps
	if !reflect.DeepEqual(settled, j.settled) {
		j.settled = settled
	}
}

// convertOne keeps the old value if nothing came of the change.
func (x *index) convertOne(k key, j *joined) {
	if j.service == nil {
		j.value, j.problems, j.created = nil, nil, time.Time{}
		for _, s := range j.slices {
			if x.reportOrphans {
				j.problems = append(j.problems, Problem{Object: s.Namespace + "/" + s.Name,
					Field: "metadata.labels[" + discoveryv1.LabelServiceName + "]", Value: k.name, Reason: "there is no such Service"})
			}
		}
		return
	}
	if t := j.service.CreationTimestamp.Time; !t.Equal(j.created) {
		j.created = t
	}
	value, ps := convertService(j.service, slices.Collect(maps.Values(j.slices)))
	j.problems = ps
	if !reflect.DeepEqual(value, j.value) {
		j.value = value
	}
}
