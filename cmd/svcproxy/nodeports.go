package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"svcproxy/pkg/rules"
)

// nodePorts says on which addresses node ports are open.
type nodePorts struct {
	localhost bool
	primary   bool
	ranges    []netip.Prefix
}

// readNodePorts expands the keywords as kube-proxy does, and parses the rest.
func (s *settings) readNodePorts() *field.Error {
	n := &s.nodePorts
	n.localhost = *s.IPTables.LocalhostNodePorts
	for i, text := range s.NodePortAddresses {
		switch text = strings.TrimSpace(text); text {
		case "":
		case "primary":
			n.primary = true
		case "localhost":
			n.ranges = append(n.ranges, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		case "all":
			n.ranges = append(n.ranges, rules.IPv4.All(), rules.IPv6.All())
		default:
			r, ok := parseCIDR(text)
			if !ok {
				return invalid(fmt.Sprintf("nodePortAddresses[%d]", i), text, reasonNoCIDR+", or primary, localhost or all")
			}
			if !slices.Contains(n.ranges, r) {
				n.ranges = append(n.ranges, r)
			}
		}
	}
	return nil
}

// of is what holds for one family. A family that the addresses do not mention
// has node ports on all its addresses, as in kube-proxy; "primary" mentions both.
func (n *nodePorts) of(f rules.Family) rules.NodePortAddresses {
	out := rules.NodePortAddresses{Primary: n.primary, Localhost: n.localhost}
	for _, r := range n.ranges {
		if rules.FamilyOf(r.Addr()) == f {
			out.Ranges = append(out.Ranges, r)
		}
	}
	if len(out.Ranges) == 0 && !n.primary {
		out.Ranges = []netip.Prefix{f.All()}
	}
	return out
}
