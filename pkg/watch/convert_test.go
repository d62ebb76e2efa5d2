package watch

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"svcproxy/pkg/rules"
)

func pointer[T any](v T) *T { return &v }

// converted returns what a Service becomes with its slices.
func converted(api *corev1.Service, eps ...*discoveryv1.EndpointSlice) (*rules.Service, []Problem) {
	var j joined
	for _, s := range eps {
		j.setSlice(convertSlice(s))
	}
	return convertService(api).join(j.slices)
}

// said joins the fields and values of problems.
func said(ps []Problem) string {
	var out []string
	for _, p := range ps {
		out = append(out, p.Field+" "+printable(p.Value))
	}
	return strings.Join(out, "; ")
}

// Each change to a good Service: what is left of it, and what is said.
func TestBadFieldsAreNamedAndTheRestIsServed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*corev1.Service)
		left   func(*rules.Service) any
		want   any
		said   string
	}{
		"ports out of range": {
			func(s *corev1.Service) {
				s.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 0}, {Name: "b", Port: 65536}, {Name: "c", Port: -1}, {Name: "d", Port: 1}, {Name: "e", Port: 65535}}
			},
			func(s *rules.Service) any { return []uint16{s.Ports[0].Port, s.Ports[1].Port} }, []uint16{1, 65535},
			"spec.ports[0].port 0; spec.ports[1].port 65536; spec.ports[2].port -1",
		},
		"node port out of range": {
			func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = "NodePort", 70000 },
			func(s *rules.Service) any { return []uint16{s.Ports[0].Port, s.Ports[0].NodePort} }, []uint16{80, 0},
			"spec.ports[0].nodePort 70000",
		},
		"unknown protocol": {
			func(s *corev1.Service) {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "x", Port: 81, Protocol: "ICMP"})
			},
			func(s *rules.Service) any { return len(s.Ports) }, 1, "spec.ports[1].protocol ICMP",
		},
		"port names": {
			func(s *corev1.Service) {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "Web", Port: 81}, corev1.ServicePort{Name: strings.Repeat("9", 63), Port: 82})
			},
			func(s *rules.Service) any { return len(s.Ports) }, 2, "spec.ports[1].name Web",
		},
		"the same port twice": {
			func(s *corev1.Service) {
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "x", Port: 80}, corev1.ServicePort{Name: "y", Port: 80, Protocol: "UDP"})
			},
			func(s *rules.Service) any { return len(s.Ports) }, 2, "spec.ports[1] x",
		},
		"affinity without configuration": {
			func(s *corev1.Service) { s.Spec.SessionAffinity = "ClientIP" },
			func(s *rules.Service) any { return s.AffinitySeconds }, uint32(10800), "",
		},
		"affinity out of range": {
			func(s *corev1.Service) {
				s.Spec.SessionAffinity = "ClientIP"
				s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: pointer[int32](86401)}}
			},
			func(s *rules.Service) any { return s.AffinitySeconds }, uint32(10800), "spec.sessionAffinityConfig.clientIP.timeoutSeconds 86401",
		},
		"external IPs": {
			func(s *corev1.Service) {
				s.Spec.ExternalIPs = []string{"127.0.0.1", "0.0.0.0", "224.0.0.1", "fe80::1", "198.51.100.7", "198.51.100.7", "2001:DB8:0::7"}
			},
			func(s *rules.Service) any { return fmt.Sprint(s.ExternalIPs) }, "[198.51.100.7 2001:db8::7]",
			"spec.externalIPs[0] 127.0.0.1; spec.externalIPs[1] 0.0.0.0; spec.externalIPs[2] 224.0.0.1; spec.externalIPs[3] fe80::1",
		},
		"source ranges": {
			func(s *corev1.Service) {
				s.Spec.Type = "LoadBalancer"
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.9"}}
				s.Spec.LoadBalancerSourceRanges = []string{" 10.1.2.3/8 ", "10.0.0.0/8", "1.2.3.4", "10.0.0.0/33", ""}
			},
			func(s *rules.Service) any { return fmt.Sprint(s.SourceRanges) }, "[10.0.0.0/8]",
			`spec.loadBalancerSourceRanges[2] 1.2.3.4; spec.loadBalancerSourceRanges[3] 10.0.0.0/33; spec.loadBalancerSourceRanges[4] ""`,
		},
		"source ranges of the other family": {
			func(s *corev1.Service) {
				s.Spec.Type = "LoadBalancer"
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.9"}, {IP: "203.0.113.10"}}
				s.Spec.LoadBalancerSourceRanges = []string{"2001:db8::/32"}
			},
			func(s *rules.Service) any { return s.RestrictSources }, true, "spec.loadBalancerSourceRanges 203.0.113.9",
		},
		"a second cluster IP of the family": {
			func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.1", "10.96.0.2", "bad"} },
			func(s *rules.Service) any { return fmt.Sprint(s.ClusterIPs) }, "[10.96.0.1]", "spec.clusterIPs 10.96.0.2; spec.clusterIPs bad",
		},
		"health check port without use": {
			func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 32000 },
			func(s *rules.Service) any { return s.HealthCheckNodePort }, uint16(0), "",
		},
		"external policy without external address": {
			func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = "Local" },
			func(s *rules.Service) any { return s.ExternalTrafficLocal }, false, "",
		},
	} {
		api := apiService("10.96.0.1")
		c.change(api)
		got, ps := converted(api)
		if left := c.left(got); !reflect.DeepEqual(left, c.want) || said(ps) != c.said {
			t.Errorf("%s: left %v, want %v; said %q, want %q", name, left, c.want, said(ps), c.said)
		}
	}
}

func TestServicesThatAreNotOurs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*corev1.Service)
		said   string
	}{
		"headless":            {func(s *corev1.Service) { s.Spec.ClusterIP = "None" }, ""},
		"no cluster IP yet":   {func(s *corev1.Service) { s.Spec.ClusterIP = "" }, `spec.clusterIP ""`},
		"ExternalName":        {func(s *corev1.Service) { s.Spec.Type = "ExternalName" }, ""},
		"of another proxy":    {func(s *corev1.Service) { s.Labels = map[string]string{labelProxyName: ""} }, ""},
		"cluster IP mapped":   {func(s *corev1.Service) { s.Spec.ClusterIP = "::ffff:10.0.0.1" }, "spec.clusterIP ::ffff:10.0.0.1"},
		"cluster IP in octal": {func(s *corev1.Service) { s.Spec.ClusterIP = "010.0.0.1" }, "spec.clusterIP 010.0.0.1"},
		"name of 64":          {func(s *corev1.Service) { s.Name = strings.Repeat("a", 64) }, "metadata.name " + strings.Repeat("a", 64)},
		"name with a line":    {func(s *corev1.Service) { s.Name = "a\nb" }, `metadata.name "a\nb"`},
	} {
		api := apiService("10.96.0.1")
		c.change(api)
		if got, ps := converted(api); got != nil || said(ps) != c.said {
			t.Errorf("%s: %+v, said %q; want nothing, said %q", name, got, said(ps), c.said)
		}
	}
}

// The longest names that are valid fit into a comment of the kernel's 255 bytes.
func TestLongestNamesAreServed(t *testing.T) {
	api := apiService("10.96.0.1")
	long := strings.Repeat("n", 63)
	api.Namespace, api.Name, api.Spec.Ports[0].Name = long, long, strings.Repeat("9", 63)
	svc, ps := converted(api)
	if svc == nil || len(ps) != 0 {
		t.Fatalf("%+v, %v", svc, ps)
	}
	r := rules.Build(&rules.Snapshot{Services: []*rules.Service{svc}}, rules.Config{Family: rules.IPv4})
	for _, table := range r.Tables {
		for _, c := range table.Chains {
			for _, rule := range c.Rules {
				if len(rule.Comment) > 255 {
					t.Errorf("a comment of %d bytes: %s", len(rule.Comment), rule.Comment)
				}
			}
		}
	}
}

func TestEndpointAddresses(t *testing.T) {
	v4 := []string{
		"127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "::ffff:10.0.0.1", "010.0.0.1", "10.0.0.08",
		"1.2.3", "", " 10.21.0.1", "fd00::1", "10.96.0.1", "10.21.0.1", "10.250.0.2",
	}
	v6 := []string{"::1", "fe80::1", "fe80::1%eth0", "ff02::1", "::", "::ffff:10.0.0.1", "10.21.0.1", "FD00:0:0::1", "fd00::1"}
	for family, c := range map[discoveryv1.AddressType]struct {
		addrs []string
		want  string
		said  int
	}{
		discoveryv1.AddressTypeIPv4: {v4, "10.21.0.1:80 10.250.0.2:80", 13},
		discoveryv1.AddressTypeIPv6: {v6, "[fd00::1]:80", 8},
		discoveryv1.AddressTypeFQDN: {v4, "", 0},
		"IP":                        {v4, "", 1},
	} {
		s := apiSlice("web-1", c.addrs...)
		s.AddressType = family
		svc, ps := converted(apiService("10.96.0.1"), s)
		if got := served(&rules.Snapshot{Services: []*rules.Service{svc}}); got != c.want || len(ps) != c.said {
			t.Errorf("%s: %q, want %q; %d problems, want %d: %v", family, got, c.want, len(ps), c.said, ps)
		}
		for _, p := range ps {
			if p.Object != "ns/web-1" || p.Field == "" || p.Reason == "" {
				t.Errorf("%s: %+v does not name object, field and reason", family, p)
			}
		}
	}
}

// All combinations of what may be known of an endpoint.
func TestConditionsDefaultAsTheAPISays(t *testing.T) {
	three := []*bool{nil, pointer(true), pointer(false)}
	for _, ready := range three {
		for _, serving := range three {
			for _, terminating := range three {
				s := apiSlice("web-1", "10.21.0.1")
				s.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating}
				svc, _ := converted(apiService("10.96.0.1"), s)
				got := svc.Ports[0].Endpoints[0]
				if got.Ready == (ready == three[2]) || got.Serving == (serving == three[2]) || got.Terminating != (terminating == three[1]) {
					t.Errorf("ready %v, serving %v, terminating %v: %+v", ready, serving, terminating, got)
				}
			}
		}
	}
}

func TestServiceCIDRs(t *testing.T) {
	node := &rules.Node{Addresses: []netip.Addr{netip.MustParseAddr("10.250.0.2")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.21.1.0/24")}}
	cidr := func(name string, texts ...string) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: texts}}
	}
	got, ps := convertServiceCIDRs([]*networkingv1.ServiceCIDR{
		cidr("b", "10.96.0.0/16", "fd00:96::7/108"), cidr("a", "10.96.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "10.21.0.0/16", "x", "::/0"),
	}, node)
	if want := "[10.96.0.0/16 fd00:96::/108]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	if want := "spec.cidrs[1] 10.0.0.0/8; spec.cidrs[2] 0.0.0.0/0; spec.cidrs[3] 10.21.0.0/16; spec.cidrs[4] x; spec.cidrs[5] ::/0"; said(ps) != want {
		t.Errorf("said %q, want %q", said(ps), want)
	}
}

func TestNode(t *testing.T) {
	n := &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: "here"}, {Type: corev1.NodeExternalIP, Address: "203.0.113.1"},
		{Type: corev1.NodeInternalIP, Address: "10.250.0.3"}, {Type: corev1.NodeInternalIP, Address: "10.250.0.2"}, {Type: corev1.NodeInternalIP, Address: "bad"},
		{Type: corev1.NodeExternalIP, Address: "2001:db8::1"},
	}}, Spec: corev1.NodeSpec{PodCIDR: "10.21.1.0/24", PodCIDRs: []string{"10.21.1.0/24", "10.22.0.0/24", "fd00:21::/64"}}}
	got, ps := convertNode("here", n)
	for what, c := range map[string][2]string{
		"addresses":  {fmt.Sprint(got.Addresses), "[10.250.0.2 10.250.0.3 203.0.113.1 2001:db8::1]"},
		"primary":    {fmt.Sprint(got.Primary), "[10.250.0.3 2001:db8::1]"},
		"pod ranges": {fmt.Sprint(got.PodCIDRs), "[10.21.1.0/24 fd00:21::/64]"},
		"said":       {said(ps), "status.addresses[4].address bad"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %s, want %s", what, c[0], c[1])
		}
	}
	if got, _ := convertNode("here", nil); !reflect.DeepEqual(got, rules.Node{Name: "here"}) {
		t.Errorf("without a Node: %+v", got)
	}
}

// A slice belongs to the port whose name and protocol its own port has.
func TestSlicePortsFindTheirServicePort(t *testing.T) {
	api := apiService("10.96.0.1")
	api.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 81}, {Name: "c", Port: 82, Protocol: "UDP"}}
	s := apiSlice("web-1", "10.21.0.1")
	s.Ports = []discoveryv1.EndpointPort{
		{Name: pointer("b"), Port: pointer[int32](8081)}, {Name: pointer("c"), Port: pointer[int32](8082)},
		{Name: pointer("c"), Port: pointer[int32](8083), Protocol: pointer(corev1.ProtocolUDP)}, {Name: pointer("a")}, {Port: pointer[int32](1)},
		{Name: pointer("a"), Port: pointer[int32](0)}, {Name: pointer("a"), Port: pointer[int32](1), Protocol: pointer(corev1.Protocol("x"))},
	}
	svc, ps := converted(api, s)
	var got []string
	for _, p := range svc.Ports {
		for _, e := range p.Endpoints {
			got = append(got, p.Name+" "+e.Addr.String())
		}
	}
	if want := []string{"b 10.21.0.1:8081", "c 10.21.0.1:8083"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if want := "ports[5].port 0; ports[6].protocol x"; said(ps) != want {
		t.Errorf("said %q, want %q", said(ps), want)
	}
}
