package watch

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	"pgregory.net/rapid"
)

func TestOrderOfSlicesDoesNotMatter(t *testing.T) {
	tri := rapid.SampledFrom([]*bool{nil, new(bool), func() *bool { b := true; return &b }()})
	rapid.Check(t, func(t *rapid.T) {
		var all []*discoveryv1.EndpointSlice
		for _, name := range []string{"a", "b", "c"} {
			s := apiSlice(name)
			for _, addr := range rapid.SliceOfN(rapid.SampledFrom([]string{"10.21.0.1", "10.21.0.2", "10.21.0.10", "bad"}), 0, 4).Draw(t, name) {
				s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
					Addresses:  []string{addr},
					Conditions: discoveryv1.EndpointConditions{Ready: tri.Draw(t, "ready"), Serving: tri.Draw(t, "serving"), Terminating: tri.Draw(t, "terminating")},
				})
			}
			all = append(all, s)
		}
		want, _ := converted(apiService("10.96.0.1"), all...)
		slices.Reverse(all)
		for _, s := range all {
			slices.Reverse(s.Endpoints)
		}
		if got, _ := converted(apiService("10.96.0.1"), all...); !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

// Endpoints share hints; each has its own all the same.
func TestHintsOfEachEndpoint(t *testing.T) {
	s := apiSlice("web-1", "10.21.0.1", "10.21.0.2", "10.21.0.3", "10.21.0.4", "10.21.0.5")
	a := &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}}}
	s.Endpoints[0].Hints, s.Endpoints[1].Hints, s.Endpoints[3].Hints = a, a.DeepCopy(), a.DeepCopy()
	s.Endpoints[3].Hints.ForNodes = []discoveryv1.ForNode{{Name: "n"}}
	s.Endpoints[4].Hints = &discoveryv1.EndpointHints{}
	svc, _ := converted(apiService("10.96.0.1"), s)
	var got []string
	for _, e := range svc.Ports[0].Endpoints {
		got = append(got, fmt.Sprint(e.ZoneHints, e.NodeHints))
	}
	if want := []string{"[a] []", "[a] []", "[] []", "[a] [n]", "[] []"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
