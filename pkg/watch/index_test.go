package watch

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"svcproxy/pkg/rules"
)

// rival is a Service that wants addresses which others want too.
func rival(name string, age int, change func(*corev1.ServiceSpec)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-time.Duration(age) * time.Second))},
		Spec:       corev1.ServiceSpec{Type: "NodePort", Ports: []corev1.ServicePort{{Port: 80, Name: "x"}, {Port: 81, Name: "y"}}},
	}
	change(&s.Spec)
	return s
}

func TestOneServiceHasAnAddress(t *testing.T) {
	victim := rival("victim", 0, func(s *corev1.ServiceSpec) { s.ClusterIP, s.Ports[0].NodePort = "10.96.0.1", 30080 })
	thief := rival("a-thief", 9, func(s *corev1.ServiceSpec) {
		s.ClusterIP, s.ExternalIPs, s.Ports[0].NodePort = "10.96.0.2", []string{"10.96.0.1", "198.51.100.1"}, 30080
		s.Ports = s.Ports[:1]
	})
	x := newIndex("here")
	x.setService(convertService(victim))
	x.setService(convertService(thief))
	lost := func() string {
		snap, ps := x.snapshot()
		var out []string
		for _, p := range ps {
			out = append(out, p.Object+" "+p.Field+" "+p.Value)
		}
		for _, s := range snap.Services {
			for _, p := range s.Ports {
				out = append(out, fmt.Sprintf("%s:%s node port %d, without %d", s.Name, p.Name, p.NodePort, len(p.Taken)))
			}
		}
		return strings.Join(out, "; ")
	}
	// The older Service has the node port, but nobody the other's cluster IP.
	if got, want := lost(), "ns/a-thief spec.externalIPs 10.96.0.1:80/tcp; ns/victim spec.ports.nodePort 30080/tcp; "+
		"a-thief:x node port 30080, without 1; victim:x node port 0, without 0; victim:y node port 0, without 0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	x.deleteService(key{"ns", "victim"})
	if got, want := lost(), "a-thief:x node port 30080, without 0"; got != want {
		t.Errorf("alone: got %s\nwant %s", got, want)
	}
	x.setService(convertService(victim))
	younger := thief.DeepCopy()
	younger.CreationTimestamp = metav1.NewTime(time.Unix(2e9, 0))
	x.setService(convertService(younger))
	if got, want := lost(), "ns/a-thief spec.externalIPs 10.96.0.1:80/tcp; ns/a-thief spec.ports.nodePort 30080/tcp; "+
		"a-thief:x node port 0, without 1; victim:x node port 30080, without 0; victim:y node port 0, without 0"; got != want {
		t.Errorf("recreated: got  %s\nwant %s", got, want)
	}
}

// One Service with an address in several roles is no conflict to report.
func TestOneServiceWithAnAddressTwice(t *testing.T) {
	s := rival("web", 0, func(s *corev1.ServiceSpec) {
		s.Type, s.ClusterIP, s.ExternalIPs = "LoadBalancer", "10.96.0.1", []string{"203.0.113.9"}
	})
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.9"}}
	x := newIndex("here")
	x.setService(convertService(s))
	snap, ps := x.snapshot()
	if taken := snap.Services[0].Ports[0].Taken; len(ps) != 0 || len(taken) != 1 || taken[0].Role != rules.ExternalIP {
		t.Errorf("taken %+v, said %v", taken, ps)
	}
}

// After any sequence of events, with snapshots taken in between or not, the state
// is that of an index that gets only what is left; and a Service that did not
// change has its old pointer.
func TestAnyEventsEndWhereAFreshStartDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newIndex("here")
		services, eps := map[string]*corev1.Service{}, map[string]*discoveryv1.EndpointSlice{}
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			n := name.Draw(t, "name")
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0, 1:
				services[n] = drawRival(t, n)
				x.setService(convertService(services[n]))
			case 2:
				delete(services, n)
				x.deleteService(key{"ns", n})
			case 3:
				s := apiSlice(n+"-1", fmt.Sprintf("10.21.0.%d", rapid.IntRange(1, 3).Draw(t, "endpoint")))
				s.Labels[discoveryv1.LabelServiceName] = n
				eps[n] = s
				x.setSlice(convertSlice(s))
			case 4:
				if s := eps[n]; s != nil {
					delete(eps, n)
					x.deleteSlice(convertSlice(s))
				}
			}
			if rapid.Bool().Draw(t, "look") {
				x.snapshot()
			}
		}
		fresh := newIndex("here")
		for _, s := range services {
			fresh.setService(convertService(s))
		}
		for _, s := range eps {
			fresh.setSlice(convertSlice(s))
		}
		got, ps1 := x.snapshot()
		want, ps2 := fresh.snapshot()
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(ps1, ps2) {
			t.Fatalf("got  %+v %v\nwant %+v %v", got.Services, ps1, want.Services, ps2)
		}
		for _, s := range services {
			x.setService(convertService(s.DeepCopy()))
		}
		again, _ := x.snapshot()
		for i := range again.Services {
			if again.Services[i] != got.Services[i] {
				t.Fatalf("%s did not change and got a new pointer", again.Services[i].Name)
			}
		}
	})
}

func drawRival(t *rapid.T, name string) *corev1.Service {
	addr := rapid.SampledFrom([]string{"10.96.0.1", "10.96.0.2", "198.51.100.1"})
	return rival(name, rapid.IntRange(0, 2).Draw(t, "age"), func(s *corev1.ServiceSpec) {
		s.Type = rapid.SampledFrom([]corev1.ServiceType{"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}).Draw(t, "type")
		s.ClusterIP = rapid.SampledFrom([]string{"10.96.0.1", "10.96.0.2", "None", ""}).Draw(t, "cluster IP")
		s.ExternalIPs = rapid.SliceOfN(addr, 0, 2).Draw(t, "external IPs")
		s.Ports[0].NodePort = rapid.SampledFrom([]int32{0, 30080}).Draw(t, "node port")
		s.ExternalTrafficPolicy, s.HealthCheckNodePort = "Local", rapid.SampledFrom([]int32{0, 30080}).Draw(t, "health check port")
	})
}

// What the index makes of a Service does not make the next version of it another.
func TestSameServiceInTheIndex(t *testing.T) {
	api := apiService("10.96.0.1")
	kept := convertService(api)
	x := newIndex("here")
	x.setService(kept)
	x.setSlice(convertSlice(apiSlice("web-1", "10.21.0.1")))
	x.snapshot()
	api.ResourceVersion, api.Annotations = "7", map[string]string{"a": "b"}
	if !x.sameService(kept, convertService(api)) {
		t.Error("an annotation makes it another")
	}
	for what, change := range map[string]func(*corev1.Service){
		"a port":           func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 },
		"a problem":        func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"bad"} },
		"another's now":    func(s *corev1.Service) { s.Labels = map[string]string{labelProxyName: ""} },
		"made another day": func(s *corev1.Service) { s.CreationTimestamp = metav1.NewTime(time.Unix(1e9, 0)) },
	} {
		changed := api.DeepCopy()
		change(changed)
		if x.sameService(kept, convertService(changed)) {
			t.Errorf("%s: the same", what)
		}
	}
}
