package watch

import (
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// BenchmarkMemory reports what a Service with one slice of two endpoints costs in
// the informers' stores, the index and its snapshot, the last of which is what
// rules are made of.
func BenchmarkMemory(b *testing.B) {
	const services = 10000
	for b.Loop() {
		before := heap()
		c := NewCluster(nil, "here")
		stores := fill(b, c, services)
		snap, ps := c.Snapshot()
		if len(snap.Services) != services || len(ps) != 0 {
			b.Fatalf("%d Services, problems %v", len(snap.Services), ps)
		}
		b.ReportMetric(float64(heap()-before)/services, "B/Service")
		runtime.KeepAlive(stores)
		runtime.KeepAlive(c)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one only finalizes
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fill does what informers do with objects fresh from the wire.
func fill(b *testing.B, c *Cluster, services int) []cache.Store {
	onService, onSlice := c.serviceHandler(), c.sliceHandler()
	stores := []cache.Store{cache.NewStore(cache.MetaNamespaceKeyFunc), cache.NewStore(cache.MetaNamespaceKeyFunc)}
	add := func(i int, h cache.ResourceEventHandler, obj any) {
		kept, err := strip(obj)
		if err == nil {
			err = stores[i].Add(kept)
		}
		if err != nil {
			b.Fatal(err)
		}
		h.OnAdd(kept, false)
	}
	for i := range services {
		s := apiService(fmt.Sprintf("10.%d.%d.%d", 96+i/62500, i/250%250, 1+i%250))
		s.Name, s.ResourceVersion, s.UID = fmt.Sprintf("svc-%05d", i), fmt.Sprint(1000+i), "0b1c9d3e-5d0f-4f0a-8f0e-6a3a6f3f9a11"
		s.Spec.ClusterIPs, s.Spec.Ports[0].Protocol, s.Spec.Ports[0].Name = []string{s.Spec.ClusterIP}, "TCP", "http"
		s.Spec.Type, s.Spec.SessionAffinity, s.Spec.IPFamilies = "ClusterIP", "None", []corev1.IPFamily{"IPv4"}
		s.Spec.InternalTrafficPolicy, s.Spec.IPFamilyPolicy = pointer(corev1.ServiceInternalTrafficPolicyCluster), pointer(corev1.IPFamilyPolicySingleStack)
		add(0, onService, decoded(b, s, new(corev1.Service)))

		eps := apiSlice(s.Name+"-x7k2p", fmt.Sprintf("10.21.%d.%d", i/100, 1+i%100), fmt.Sprintf("10.22.%d.%d", i/100, 1+i%100))
		eps.ResourceVersion, eps.UID, eps.Labels[discoveryv1.LabelServiceName] = fmt.Sprint(20000+i), s.UID, s.Name
		eps.Ports[0].Name, eps.Ports[0].Protocol = pointer("http"), pointer(corev1.ProtocolTCP)
		for j := range eps.Endpoints {
			ep := &eps.Endpoints[j]
			ep.NodeName, ep.Zone = pointer(fmt.Sprintf("node-%d", (i+j)%100)), pointer("zone-a")
			ep.Conditions = discoveryv1.EndpointConditions{Ready: pointer(true), Serving: pointer(true), Terminating: pointer(false)}
		}
		add(1, onSlice, decoded(b, eps, new(discoveryv1.EndpointSlice)))
	}
	return stores
}

// decoded makes out of an object one that shares nothing with others.
func decoded[T interface{ Unmarshal([]byte) error }](b *testing.B, in interface{ Marshal() ([]byte, error) }, out T) T {
	raw, err := in.Marshal()
	if err == nil {
		err = out.Unmarshal(raw)
	}
	if err != nil {
		b.Fatal(err)
	}
	return out
}
