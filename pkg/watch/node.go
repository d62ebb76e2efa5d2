package watch

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"svcproxy/pkg/rules"
)

// toBeDeleted is the taint by which the cluster autoscaler announces that it
// removes a node (KEP-3836).
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

func isToBeDeleted(t corev1.Taint) bool { return t.Key == toBeDeleted }

// convertNode returns what matters of the own Node. api may be nil: it is not
// known (yet).
func convertNode(name string, api *corev1.Node) (rules.Node, []Problem) {
	n := rules.Node{Name: name}
	if api == nil {
		return n, nil
	}
	p := problems{object: api.Name}
	n.PodCIDRs = podCIDRs(api, &p)
	n.Leaving = !api.DeletionTimestamp.IsZero() || slices.ContainsFunc(api.Spec.Taints, isToBeDeleted)
	n.Zone = api.Labels[corev1.LabelTopologyZone]
	for i, a := range api.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if addr, reason := parseUnicast(a.Address); reason != "" {
			p.add(fmt.Sprintf("status.addresses[%d].address", i), a.Address, reason)
		} else {
			n.Addresses = append(n.Addresses, addr)
		}
	}
	n.Primary = primaryAddresses(api, n.Addresses)
	n.Addresses = sortAddrs(n.Addresses)
	return n, p.list
}

// primaryAddresses returns the first of each family: internal addresses come
// before external ones, as for kube-proxy. usable holds those that are valid.
func primaryAddresses(api *corev1.Node, usable []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, want := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range api.Status.Addresses {
			addr, reason := parseAddr(a.Address)
			if a.Type != want || reason != "" || !slices.Contains(usable, addr) {
				continue
			}
			if !slices.ContainsFunc(out, func(o netip.Addr) bool { return rules.FamilyOf(o) == rules.FamilyOf(addr) }) {
				out = append(out, addr)
			}
		}
	}
	return out
}

// podCIDRs returns the first range of each family.
func podCIDRs(api *corev1.Node, p *problems) []netip.Prefix {
	field, texts := "spec.podCIDRs", api.Spec.PodCIDRs
	if len(texts) == 0 && api.Spec.PodCIDR != "" {
		field, texts = "spec.podCIDR", []string{api.Spec.PodCIDR}
	}
	var out []netip.Prefix
	for _, s := range texts {
		r, reason := parseRange(s)
		if reason != "" {
			p.add(field, s, reason)
			continue
		}
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return rules.FamilyOf(o.Addr()) == rules.FamilyOf(r.Addr()) }) {
			out = append(out, r)
		}
	}
	return out
}
