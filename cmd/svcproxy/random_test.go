package main

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

// What may stand where the API has an address, a range or a port: good ones, so
// often that they meet, and those that make trouble.
var (
	addresses = []string{
		"10.96.0.1", "10.96.0.2", "10.96.0.3", "fd00:10:96::1", "fd00:10:96::2", "198.51.100.1", "2001:db8::1",
		"10.21.1.2", "10.21.3.2", "fd00:10:21:1::2", "FD00:10:21:1:0:0:0:2", "fd00:10:21:1::0002", "10.250.0.2",
		"127.0.0.1", "::1", "0.0.0.0", "::", "169.254.1.1", "fe80::1", "fe80::1%eth0", "224.0.0.1", "ff02::1", "255.255.255.255",
		"::ffff:10.0.0.1", "010.0.0.1", "10.0.0.08", "1.2.3", "", " 10.21.1.9", "None", "example.org", "10.0.0.1\n-X",
	}
	ranges = []string{
		"192.168.0.0/16", "2001:db8:10::/48", "0.0.0.0/0", "::/0", "10.250.0.7/24", " 10.1.0.0/16 ", "fd00:250::/64",
		"10.0.0.0", "10.0.0.0/33", "::ffff:10.0.0.0/100", "", "any", "203.0.113.000/025",
	}
	ports = []int32{80, 80, 443, 1, 65535, 0, -1, 65536, 70000, 30080}
	nodes = []string{"here", "other", ""}
)

// drawObjects is a random set of objects with names a to d, as JSON.
func drawObjects(t *rapid.T) []json.RawMessage {
	var out []json.RawMessage
	add := func(o any) {
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, raw)
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		if rapid.IntRange(0, 4).Draw(t, name) > 0 {
			add(drawAPIService(t, name))
		}
		for i := range rapid.IntRange(0, 2).Draw(t, "slices") {
			add(drawAPISlice(t, name, i))
		}
	}
	if rapid.Bool().Draw(t, "service network") {
		add(&networkingv1.ServiceCIDR{
			TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR"},
			ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
			Spec:       networkingv1.ServiceCIDRSpec{CIDRs: rapid.SliceOfN(rapid.SampledFrom(ranges), 0, 2).Draw(t, "its ranges")},
		})
	}
	return out
}

func drawAPIService(t *rapid.T, name string) *corev1.Service {
	addr := rapid.SampledFrom(addresses)
	s := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"},
	}
	s.Spec.ClusterIPs = rapid.SliceOfN(addr, 0, 2).Draw(t, "cluster IPs")
	if len(s.Spec.ClusterIPs) > 0 {
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	s.Spec.Type = rapid.SampledFrom([]corev1.ServiceType{"", "ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName"}).Draw(t, "type")
	s.Spec.ExternalIPs = rapid.SliceOfN(addr, 0, 2).Draw(t, "external IPs")
	for range rapid.IntRange(0, 2).Draw(t, "ingress") {
		mode := rapid.SampledFrom([]*corev1.LoadBalancerIPMode{nil, to(corev1.LoadBalancerIPModeVIP), to(corev1.LoadBalancerIPModeProxy)})
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: addr.Draw(t, "ingress IP"), IPMode: mode.Draw(t, "mode")})
	}
	s.Spec.LoadBalancerSourceRanges = rapid.SliceOfN(rapid.SampledFrom(ranges), 0, 3).Draw(t, "source ranges")
	s.Spec.ExternalTrafficPolicy = rapid.SampledFrom([]corev1.ServiceExternalTrafficPolicy{"", "Cluster", "Local"}).Draw(t, "external policy")
	s.Spec.InternalTrafficPolicy = rapid.SampledFrom([]*corev1.ServiceInternalTrafficPolicy{
		nil, to(corev1.ServiceInternalTrafficPolicyCluster), to(corev1.ServiceInternalTrafficPolicyLocal),
	}).Draw(t, "internal policy")
	s.Spec.SessionAffinity = rapid.SampledFrom([]corev1.ServiceAffinity{"", "None", "ClientIP"}).Draw(t, "affinity")
	if rapid.Bool().Draw(t, "timeout") {
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{
			TimeoutSeconds: rapid.SampledFrom([]*int32{nil, to(int32(0)), to(int32(600)), to(int32(86401)), to(int32(-1))}).Draw(t, "seconds"),
		}}
	}
	s.Spec.HealthCheckNodePort = rapid.SampledFrom([]int32{0, 0, 30080, 32000, 70000}).Draw(t, "health check port")
	for i := range rapid.IntRange(0, 3).Draw(t, "ports") {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
			Name: rapid.SampledFrom([]string{"", "x", fmt.Sprint("p", i), "Bad Name"}).Draw(t, "port name"), Protocol: drawProtocol(t),
			Port: rapid.SampledFrom(ports).Draw(t, "port"), NodePort: rapid.SampledFrom([]int32{0, 30080, 30081, 30082, -5, 65536}).Draw(t, "node port"),
		})
	}
	return s
}

func drawProtocol(t *rapid.T) corev1.Protocol {
	return rapid.SampledFrom([]corev1.Protocol{"TCP", "TCP", "UDP", "SCTP", "", "tcp", "ICMP"}).Draw(t, "protocol")
}

func drawAPISlice(t *rapid.T, service string, i int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		TypeMeta:   metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(service, "-", i), Namespace: "ns", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
	}
	s.AddressType = rapid.SampledFrom([]discoveryv1.AddressType{"IPv4", "IPv4", "IPv6", "FQDN", "IP"}).Draw(t, "address type")
	for range rapid.IntRange(0, 3).Draw(t, "slice ports") {
		p := discoveryv1.EndpointPort{Name: rapid.SampledFrom([]*string{nil, to(""), to("x"), to("p0"), to("p1")}).Draw(t, "slice port name")}
		if rapid.IntRange(0, 5).Draw(t, "has protocol") > 0 {
			p.Protocol = to(drawProtocol(t))
		}
		if rapid.IntRange(0, 5).Draw(t, "has port") > 0 {
			p.Port = to(rapid.SampledFrom(ports).Draw(t, "number"))
		}
		s.Ports = append(s.Ports, p)
	}
	condition := rapid.SampledFrom([]*bool{nil, to(true), to(false)})
	for range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		e := discoveryv1.Endpoint{Addresses: rapid.SliceOfN(rapid.SampledFrom(addresses), 0, 2).Draw(t, "endpoint")}
		e.Conditions = discoveryv1.EndpointConditions{
			Ready: condition.Draw(t, "ready"), Serving: condition.Draw(t, "serving"), Terminating: condition.Draw(t, "terminating"),
		}
		e.NodeName = rapid.SampledFrom([]*string{nil, &nodes[0], &nodes[1], &nodes[2]}).Draw(t, "node")
		if rapid.Bool().Draw(t, "hints") {
			e.Hints = &discoveryv1.EndpointHints{}
			for _, z := range rapid.SliceOfN(rapid.SampledFrom([]string{"z", "y", ""}), 0, 2).Draw(t, "zones") {
				e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: z})
			}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func to[T any](v T) *T { return &v }
