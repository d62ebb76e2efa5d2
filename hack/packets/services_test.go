package packets

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"svcproxy/pkg/rules"
)

// destination is what a packet is for.
type destination struct {
	protocol rules.Protocol
	addr     netip.AddrPort
	affinity bool // of the Service
}

// destinations lists the addresses and ports of all Services of
// testdata/services.yaml, and a port and an address beside each.
func destinations(t *testing.T, f rules.Family) []destination {
	t.Helper()
	text, err := os.ReadFile("testdata/services.yaml")
	if err != nil {
		t.Fatal(err)
	}
	set := map[destination]bool{}
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		var s corev1.Service
		if err := yaml.Unmarshal([]byte(doc), &s); err != nil {
			t.Fatal(err)
		}
		if s.Kind == "Service" {
			addService(set, f, &s)
		}
	}
	var out []destination
	for d := range set {
		if rules.FamilyOf(d.addr.Addr()) == f {
			out = append(out, d)
		}
	}
	return out
}

func addService(set map[destination]bool, f rules.Family, s *corev1.Service) {
	vips := append(s.Spec.ClusterIPs, s.Spec.ExternalIPs...)
	for _, in := range s.Status.LoadBalancer.Ingress {
		vips = append(vips, in.IP)
	}
	own := []string{"10.250.0.2", "fd00:250::2", "127.0.0.1"}
	for _, p := range s.Spec.Ports {
		if p.Protocol == corev1.ProtocolSCTP {
			continue // this kernel may have no SCTP sockets; its rules are loaded
		}
		d := destination{protocol: rules.Protocol(strings.ToLower(string(p.Protocol))), affinity: s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP}
		for _, v := range vips {
			d.at(set, v, p.Port)
		}
		d.affinity = false
		for _, v := range s.Spec.ClusterIPs {
			d.at(set, v, p.Port+1000)
		}
		for _, a := range own {
			if p.NodePort != 0 {
				d.at(set, a, p.NodePort)
				d.at(set, a, p.NodePort+1000)
			}
		}
	}
}

func (d destination) at(set map[destination]bool, addr string, port int32) {
	d.addr = netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port))
	set[d] = true
}
