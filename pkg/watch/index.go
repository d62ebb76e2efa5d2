package watch

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"svcproxy/pkg/rules"
)

// key names a Service.
type key struct{ namespace, name string }

func (k key) String() string { return k.namespace + "/" + k.name }

// serviceOf returns the Service that a slice belongs to; ok is false for a slice
// that belongs to none.
func serviceOf(s *endpointSlice) (k key, ok bool) {
	return key{s.namespace, s.service}, s.service != ""
}

// joined is a Service and its slices, and what they were joined to.
type joined struct {
	service  *bareService     // nil: not seen (yet)
	slices   []*endpointSlice // sorted by name
	created  int64            // as in bareService, when it was converted
	value    *rules.Service   // as if there were no other Service
	problems []Problem

	settled   *rules.Service // without what other Services have
	conflicts []Problem
}

// index joins Services and slices and converts what changed when a snapshot is
// asked for. It is safe for concurrent use.
type index struct {
	nodeName      string
	reportOrphans bool // a slice whose Service is missing is a problem
	needsNode     bool // without the own Node nobody should send traffic here
	changes       *Changes

	mu       sync.Mutex
	node     *corev1.Node // the last one known; nil: none
	nodeGone bool         // it is deleted
	cidrs    map[string]*networkingv1.ServiceCIDR
	services map[key]*joined
	dirty    map[key]bool
	claims   claims
	sorted   []*rules.Service
}

func newIndex(nodeName string) *index {
	return &index{nodeName: nodeName, changes: newChanges(), cidrs: map[string]*networkingv1.ServiceCIDR{},
		services: map[key]*joined{}, dirty: map[key]bool{}, claims: claims{}}
}

// at returns the entry for k and marks it for conversion. The caller holds mu.
func (x *index) at(k key) *joined {
	j := x.services[k]
	if j == nil {
		j = &joined{}
		x.services[k] = j
	}
	x.dirty[k] = true
	return j
}

func (x *index) setService(s *bareService) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.putService(s)
}

func (x *index) putService(s *bareService) {
	x.at(s.key).service = s
	x.changes.service()
}

// sameService compares two versions of a Service. It locks because the older one
// may be in the index, which changes its value.
func (x *index) sameService(a, b *bareService) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return a.same(b)
}

func (x *index) deleteService(k key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dropService(k)
}

func (x *index) dropService(k key) {
	x.at(k).service = nil
	x.changes.service()
}

func (x *index) setSlice(s *endpointSlice) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.putSlice(s)
}

func (x *index) putSlice(s *endpointSlice) {
	if k, ok := serviceOf(s); ok {
		x.changes.slice(k, s, x.at(k).setSlice(s))
	}
}

func (x *index) deleteSlice(s *endpointSlice) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dropSlice(s)
}

func (x *index) dropSlice(s *endpointSlice) {
	if k, ok := serviceOf(s); ok {
		x.at(k).deleteSlice(s)
		x.changes.sliceGone(k, s)
	}
}

// setSlice returns what was there before under the same name; nil if nothing was.
func (j *joined) setSlice(s *endpointSlice) (before *endpointSlice) {
	i, found := j.find(s)
	if !found {
		j.slices = slices.Insert(j.slices, i, s)
		return nil
	}
	before, j.slices[i] = j.slices[i], s
	return before
}

func (j *joined) deleteSlice(s *endpointSlice) {
	if i, found := j.find(s); found {
		j.slices = slices.Delete(j.slices, i, i+1)
	}
}

// find returns the place of the slice with the name of s.
func (j *joined) find(s *endpointSlice) (i int, found bool) {
	return slices.BinarySearchFunc(j.slices, s.name, func(o *endpointSlice, name string) int { return strings.Compare(o.name, name) })
}

// setNode takes the own Node.
func (x *index) setNode(n *corev1.Node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.node, x.nodeGone = n, false
	x.changes.other()
}

// dropNode notes that the own Node is deleted. The machine is still where it was, and
// may get a new Node at any moment, so its zone, addresses and pod range stay known:
// rules that do without them would send clients elsewhere, or masquerade nobody.
func (x *index) dropNode(*corev1.Node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.nodeGone = true
	x.changes.other()
}

func (x *index) setServiceCIDR(c *networkingv1.ServiceCIDR) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cidrs[c.Name] = c
	x.changes.other()
}

func (x *index) deleteServiceCIDR(c *networkingv1.ServiceCIDR) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.cidrs, c.Name)
	x.changes.other()
}

// snapshot converts what changed and returns everything.
func (x *index) snapshot() (*rules.Snapshot, []Problem) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.changes.seen()
	if len(x.dirty) > 0 {
		x.convert()
	}
	node, all := convertNode(x.nodeName, x.node)
	node.Leaving = node.Leaving || x.needsNode && (x.node == nil || x.nodeGone)
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
	x.dirty = map[key]bool{} // it does not stay as large as at the start
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
	slices.SortFunc(come, rules.CompareServices)
	sorted := make([]*rules.Service, 0, len(x.sorted)+len(come))
	for _, s := range x.sorted {
		for len(come) > 0 && rules.CompareServices(come[0], s) < 0 {
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
		j.value, j.problems, j.created = nil, nil, 0
		for _, s := range j.slices {
			if x.reportOrphans {
				j.problems = append(j.problems, Problem{Object: s.key.String(),
					Field: "metadata.labels[" + discoveryv1.LabelServiceName + "]", Value: k.name, Reason: "there is no such Service"})
			}
		}
		return
	}
	j.created = j.service.created
	value, ps := j.service.join(j.slices)
	j.problems = ps
	if !reflect.DeepEqual(value, j.value) {
		j.value = value
	}
	j.service.value = j.value
}
