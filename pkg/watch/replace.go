package watch

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// replace takes a whole new set of objects, none twice.
func (x *index) replace(services []*bareService, eps []*endpointSlice, node *corev1.Node, cidrs []*networkingv1.ServiceCIDR) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.replaceServices(services)
	x.replaceSlices(eps)
	x.node = node
	clear(x.cidrs)
	for _, c := range cidrs {
		x.cidrs[c.Name] = c
	}
	x.changes.other()
}

func (x *index) replaceServices(now []*bareService) {
	stay := make(map[key]bool, len(now))
	for _, s := range now {
		stay[s.key] = true
		if j := x.services[s.key]; j == nil || j.service == nil || !j.service.same(s) {
			x.putService(s)
		}
	}
	for k, j := range x.services {
		if j.service != nil && !stay[k] {
			x.dropService(k)
		}
	}
}

func (x *index) replaceSlices(now []*endpointSlice) {
	before := map[key]*endpointSlice{}
	for _, j := range x.services {
		for _, s := range j.slices {
			before[s.key] = s
		}
	}
	for _, s := range now {
		old := before[s.key]
		delete(before, s.key)
		switch {
		case old == nil:
			x.putSlice(s)
		case !same(old, s):
			if moved(old, s) {
				x.dropSlice(old)
			}
			x.putSlice(s)
		}
	}
	for _, s := range before {
		x.dropSlice(s)
	}
}
