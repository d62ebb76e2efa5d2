package rules

import (
	"reflect"
	"testing"
)

// All conditions of two endpoints, here or elsewhere, with any hints: the choice
// is that of the expectation, which is written down another way.
func TestChoiceOfEndpoints(t *testing.T) {
	var all []Endpoint
	for bits := range 8 {
		for _, node := range []string{"here", "other"} {
			for _, hints := range []struct{ zones, nodes []string }{
				{}, {zones: []string{"a"}}, {zones: []string{"b"}}, {nodes: []string{"here"}},
				{nodes: []string{"other"}}, {zones: []string{"a", "b"}, nodes: []string{"other", "here"}},
			} {
				all = append(all, Endpoint{
					NodeName: node, Ready: bits&1 != 0, Serving: bits&2 != 0, Terminating: bits&4 != 0,
					ZoneHints: hints.zones, NodeHints: hints.nodes,
				})
			}
		}
	}
	x := expectation{snap: &Snapshot{Node: Node{Name: "here", Zone: "a"}}}
	for _, first := range all {
		for _, second := range all {
			p := &ServicePort{Endpoints: []Endpoint{first, second}}
			got := choose(p.Endpoints, &x.snap.Node, true, true)
			cluster, local := x.usable(p)
			if len(got.cluster)+len(cluster) > 0 && !reflect.DeepEqual(got.cluster, cluster) || len(got.local)+len(local) > 0 && !reflect.DeepEqual(got.local, local) {
				t.Fatalf("%+v\ncluster %+v, want %+v\nlocal %+v, want %+v", p.Endpoints, got.cluster, cluster, got.local, local)
			}
		}
	}
}
