package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"svcproxy/pkg/rules"
)

// apiObjects are the objects of a case, read without the code under test.
type apiObjects struct {
	node     corev1.Node
	services []corev1.Service
	slices   []discoveryv1.EndpointSlice
}

func readObjects(t *testing.T, text []byte) *apiObjects {
	t.Helper()
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := yaml.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	o := &apiObjects{}
	for _, raw := range list.Items {
		var kind metav1.TypeMeta
		var svc corev1.Service
		var slice discoveryv1.EndpointSlice
		var into any
		switch _ = json.Unmarshal(raw, &kind); kind.Kind {
		case "Node":
			into = &o.node
		case "Service":
			into = &svc
		case "EndpointSlice":
			into = &slice
		default:
			continue
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
		switch into {
		case &svc:
			o.services = append(o.services, svc)
		case &slice:
			o.slices = append(o.slices, slice)
		}
	}
	return o
}

// nodeAddresses are the node's own, as they are assigned where the real
// kube-proxy ran.
func (o *apiObjects) nodeAddresses() []netip.Addr {
	var out []netip.Addr
	for _, a := range o.node.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			out = append(out, addr)
		}
	}
	return out
}

// position is where a packet comes from.
type position struct {
	name string
	node bool
	in   string
	src  netip.Addr
	seen []string
}

// wellKnown holds the addresses of a family that stand in no object.
type wellKnown struct{ loopback, localPod, remotePod, otherNode, outside netip.Addr }

func known(f rules.Family) wellKnown {
	a := netip.MustParseAddr
	if f == rules.IPv6 {
		return wellKnown{a("::1"), a("fd00:10:21:1::77"), a("fd00:10:21:3::77"), a("fd00:250::3"), a("2001:db8::77")}
	}
	return wellKnown{a("127.0.0.1"), a("10.21.1.77"), a("10.21.3.77"), a("10.250.0.3"), a("192.0.2.77")}
}

// positions lists every kind of place that a packet of family f can come from.
func (o *apiObjects) positions(f rules.Family, recentLists []string) []position {
	k := known(f)
	out := []position{
		{name: "local pod", in: "cni0", src: k.localPod},
		{name: "remote pod", in: "flannel.1", src: k.remotePod},
		{name: "other node", in: "eth0", src: k.otherNode},
		{name: "outside", in: "eth0", src: k.outside},
		{name: "node by loopback", node: true, src: k.loopback},
	}
	for _, a := range o.nodeAddresses() {
		if rules.FamilyOf(a) == f {
			out = append(out, position{name: "node " + a.String(), node: true, src: a})
		}
	}
	for _, list := range recentLists {
		out = append(out, position{name: "outside, seen by " + list, in: "eth0", src: k.outside, seen: []string{list}})
	}
	for _, a := range o.endpoints(f) {
		in := "flannel.1"
		if a.local {
			in = "cni0"
		}
		out = append(out, position{name: "endpoint " + a.addr.String(), in: in, src: a.addr})
	}
	for _, s := range o.services {
		out = append(out, servicePositions(f, &s)...)
	}
	return distinct(out)
}

type apiEndpoint struct {
	addr  netip.Addr
	local bool
}

func (o *apiObjects) endpoints(f rules.Family) []apiEndpoint {
	var out []apiEndpoint
	for _, s := range o.slices {
		for _, e := range s.Endpoints {
			addr, err := netip.ParseAddr(e.Addresses[0])
			if err == nil && !addr.Is4In6() && rules.FamilyOf(addr) == f {
				out = append(out, apiEndpoint{addr, e.NodeName != nil && *e.NodeName == o.node.Name})
			}
		}
	}
	return out
}

// servicePositions are those that matter to a Service: clients at both ends of
// each of its source ranges and next to them, and a node that holds a load
// balancer address itself.
func servicePositions(f rules.Family, s *corev1.Service) []position {
	var out []position
	for _, text := range s.Spec.LoadBalancerSourceRanges {
		r, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || rules.FamilyOf(r.Addr()) != f {
			continue
		}
		first := r.Masked().Addr()
		for _, a := range []netip.Addr{first.Prev(), first, lastOf(r), lastOf(r).Next()} {
			if a.IsValid() && !a.IsUnspecified() {
				out = append(out, position{name: "client " + a.String(), in: "eth0", src: a})
			}
		}
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil && rules.FamilyOf(a) == f {
			out = append(out, position{name: "node that holds " + in.IP, node: true, src: a})
		}
	}
	return out
}

// lastOf is the last address of a range.
func lastOf(r netip.Prefix) netip.Addr {
	b := r.Masked().Addr().AsSlice()
	for i := r.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func distinct(in []position) []position {
	seen := map[string]bool{}
	var out []position
	for _, p := range in {
		if !seen[p.name] {
			seen[p.name] = true
			out = append(out, p)
		}
	}
	return out
}
