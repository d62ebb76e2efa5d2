package watch

import (
	"net/netip"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/rules/rulestest"
)

// fuzzObjects is a cluster with every field that is read, in YAML.
const fuzzObjects = `
node:
  metadata: {name: here, labels: {topology.kubernetes.io/zone: a}}
  spec: {podCIDR: 10.21.1.0/24, podCIDRs: [10.21.1.0/24, "fd00:10:21:1::/64"]}
  status: {addresses: [{type: InternalIP, address: 10.250.0.2}, {type: ExternalIP, address: "fd00:250::2"}, {type: Hostname, address: here}]}
cidr:
  metadata: {name: kubernetes}
  spec: {cidrs: [10.96.0.0/16, "fd00:10:96::/108"]}
services:
- metadata: {namespace: ns, name: plain}
  spec:
    type: ClusterIP
    clusterIP: 10.96.0.1
    clusterIPs: [10.96.0.1, "fd00:10:96::1"]
    sessionAffinity: ClientIP
    sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
    internalTrafficPolicy: Local
    ports: [{name: http, protocol: TCP, port: 80}, {name: dns, protocol: UDP, port: 53}]
- metadata: {namespace: ns, name: balanced}
  spec:
    type: LoadBalancer
    clusterIP: 10.96.0.2
    clusterIPs: [10.96.0.2, "fd00:10:96::2"]
    externalIPs: [198.51.100.7, "2001:db8::7"]
    externalTrafficPolicy: Local
    healthCheckNodePort: 30099
    loadBalancerSourceRanges: [192.0.2.0/24, "2001:db8:1::/48"]
    ports: [{name: http, protocol: TCP, port: 80, nodePort: 30080}, {name: sctp, protocol: SCTP, port: 7, nodePort: 30007}]
  status: {loadBalancer: {ingress: [{ip: 203.0.113.9, ipMode: VIP}, {ip: "2001:db8::9"}]}}
- metadata: {namespace: ns, name: lonely}
  spec: {type: NodePort, clusterIP: 10.96.0.3, clusterIPs: [10.96.0.3], externalTrafficPolicy: Cluster, ports: [{protocol: TCP, port: 80, nodePort: 30081}]}
slices:
- metadata: {namespace: ns, name: plain-4, labels: {kubernetes.io/service-name: plain}}
  addressType: IPv4
  ports: [{name: http, protocol: TCP, port: 8080}, {name: dns, protocol: UDP, port: 53}]
  endpoints:
  - {addresses: [10.21.1.2], nodeName: here, zone: a, hints: {forZones: [{name: a}], forNodes: [{name: here}]}, conditions: {ready: true, serving: true}}
  - {addresses: [10.21.3.2], nodeName: there, zone: b, hints: {forZones: [{name: b}], forNodes: [{name: there}]}, conditions: {ready: true, serving: true}}
- metadata: {namespace: ns, name: plain-6, labels: {kubernetes.io/service-name: plain}}
  addressType: IPv6
  ports: [{name: http, protocol: TCP, port: 8080}]
  endpoints: [{addresses: ["fd00:10:21:1::2"], nodeName: here}]
- metadata: {namespace: ns, name: balanced-4, labels: {kubernetes.io/service-name: balanced}}
  addressType: IPv4
  ports: [{name: http, protocol: TCP, port: 8080}, {name: sctp, protocol: SCTP, port: 7}]
  endpoints: [{addresses: [10.21.1.3], nodeName: here}, {addresses: [10.21.3.3], nodeName: there, conditions: {terminating: true, serving: true, ready: false}}]
`

type fuzzCluster struct {
	Node     corev1.Node                 `json:"node"`
	CIDR     networkingv1.ServiceCIDR    `json:"cidr"`
	Services []corev1.Service            `json:"services"`
	Slices   []discoveryv1.EndpointSlice `json:"slices"`
}

// fuzzFields are what can be set in an object, in an order that does not change.
type fuzzFields struct {
	texts   []func(string)
	numbers []func(int64)
}

// collect finds every string and number below a value.
func (f *fuzzFields) collect(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			f.collect(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				f.collect(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			f.collect(v.Index(i))
		}
	case reflect.Map:
		f.labels(v)
	case reflect.String:
		f.texts = append(f.texts, v.SetString)
	case reflect.Int32:
		f.numbers = append(f.numbers, v.SetInt)
	}
}

// labels has the values of a map of strings be set, each under its key, and the keys
// be others.
func (f *fuzzFields) labels(v reflect.Value) {
	m, ok := v.Interface().(map[string]string)
	if !ok {
		return
	}
	for _, key := range []string{corev1.LabelTopologyZone, discoveryv1.LabelServiceName} {
		if _, has := m[key]; has {
			f.texts = append(f.texts, func(s string) { m[key] = s }, func(s string) { m[s] = m[key] })
		}
	}
}

// Whatever stands in the strings and numbers of objects: the input for
// iptables-restore holds a line for each rule and no others, and every name in it is
// one word.
func FuzzObjects(f *testing.F) {
	evil := "x\"; -j ACCEPT\n-A INPUT -j ACCEPT\nCOMMIT\n*nat\n"
	var all fuzzFields
	c := readFuzzCluster(f)
	all.collect(reflect.ValueOf(c))
	for i := range all.texts {
		f.Add(uint16(i), evil, uint16(i+1), "10.0.0.1 -j DROP", uint16(0), int32(80))
	}
	f.Add(uint16(3), "10.96.0.1", uint16(9), "10.0.0.0/8", uint16(2), int32(-1))
	f.Fuzz(func(t *testing.T, at1 uint16, text1 string, at2 uint16, text2 string, atNumber uint16, number int32) {
		c := readFuzzCluster(t)
		var all fuzzFields
		all.collect(reflect.ValueOf(c))
		all.texts[int(at1)%len(all.texts)](text1)
		all.texts[int(at2)%len(all.texts)](text2)
		all.numbers[int(atNumber)%len(all.numbers)](int64(number))
		snap := c.snapshot()
		for _, f := range rules.Families() {
			for _, cfg := range []rules.Config{
				{Family: f, PodTraffic: rules.PodTraffic{NodeCIDR: true}, MasqueradeMark: 0x4000, NodePorts: rules.NodePortAddresses{Primary: true}},
				{Family: f, PodTraffic: rules.PodTraffic{Interface: "cali+"}, MasqueradeMark: 1, DropInvalid: true, MasqueradeAll: true,
					NodePorts: rules.NodePortAddresses{Ranges: []netip.Prefix{f.All()}, Localhost: true}},
			} {
				rulestest.CheckRestore(t, rules.Build(snap, cfg))
			}
		}
	})
}

func readFuzzCluster(t testing.TB) *fuzzCluster {
	t.Helper()
	c := &fuzzCluster{}
	if err := yaml.UnmarshalStrict([]byte(fuzzObjects), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// snapshot is what informers would make of the objects.
func (c *fuzzCluster) snapshot() *rules.Snapshot {
	x := newIndex("here")
	for i := range c.Services {
		x.setService(convertService(&c.Services[i]))
	}
	for i := range c.Slices {
		x.setSlice(convertSlice(&c.Slices[i]))
	}
	x.setNode(&c.Node)
	x.setServiceCIDR(&c.CIDR)
	snap, _ := x.snapshot()
	return snap
}
