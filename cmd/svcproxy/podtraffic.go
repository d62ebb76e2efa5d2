package main

import (
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"svcproxy/pkg/rules"
)

// The ways to tell traffic of pods, as kube-proxy spells them.
const (
	localByClusterCIDR = "ClusterCIDR"
	localByNodeCIDR    = "NodeCIDR"
	localByBridge      = "BridgeInterface"
	localByPrefix      = "InterfaceNamePrefix"
)

// podTraffic says how traffic of pods is told from other traffic.
type podTraffic struct {
	mode     string
	cidrs    []netip.Prefix // at most one of each family
	incoming string         // of a rule: may end in +
}

func (s *settings) readPodTraffic() *field.Error {
	p := &s.podTraffic
	detect := &s.DetectLocal
	switch p.mode = string(s.DetectLocalMode); p.mode {
	case localByClusterCIDR:
		return p.parseCIDRs(s.ClusterCIDR)
	case localByNodeCIDR:
	case localByBridge:
		p.incoming = detect.BridgeInterface
		return checkInterface("detectLocal.bridgeInterface", p.incoming)
	case localByPrefix:
		p.incoming = detect.InterfaceNamePrefix + "+"
		return checkInterface("detectLocal.interfaceNamePrefix", detect.InterfaceNamePrefix)
	default:
		return invalid("detectLocalMode", p.mode, "must be %s, %s, %s or %s", localByClusterCIDR, localByNodeCIDR, localByBridge, localByPrefix)
	}
	return nil
}

// checkInterface accepts what the kernel takes as the name of an interface. A +
// at its end would match others as well.
func checkInterface(path, name string) *field.Error {
	if name == "" {
		return invalid(path, name, "is empty, but the way to detect local traffic needs it")
	}
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '"' || r == '\\' || r == '!' }
	if len(name) > 15 || strings.ContainsFunc(name, odd) || strings.HasSuffix(name, "+") || strings.HasPrefix(name, "-") {
		return invalid(path, name, "is no name of an interface (at most 15 characters)")
	}
	return nil
}

func (p *podTraffic) parseCIDRs(list string) *field.Error {
	const path = "clusterCIDR"
	seen := map[rules.Family]bool{}
	for text := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(text) == "" {
			continue // kubeadm passes an empty one if there is no pod network
		}
		r, ok := parseCIDR(text)
		if !ok {
			return invalid(path, text, reasonNoCIDR)
		}
		f := rules.FamilyOf(r.Addr())
		if seen[f] {
			return invalid(path, text, "there is one of %s already", f)
		}
		seen[f] = true
		p.cidrs = append(p.cidrs, r)
	}
	return nil
}

const reasonNoCIDR = "must be a CIDR such as 10.244.0.0/16"

// parseCIDR reads a range; bits behind its mask are cleared.
func parseCIDR(text string) (r netip.Prefix, ok bool) {
	r, err := netip.ParsePrefix(strings.TrimSpace(text))
	return r.Masked(), err == nil && !r.Addr().Is4In6()
}

// of is what holds for one family.
func (p *podTraffic) of(f rules.Family) rules.PodTraffic {
	switch p.mode {
	case localByNodeCIDR:
		return rules.PodTraffic{NodeCIDR: true}
	case localByBridge, localByPrefix:
		return rules.PodTraffic{Interface: p.incoming}
	}
	for _, r := range p.cidrs {
		if rules.FamilyOf(r.Addr()) == f {
			return rules.PodTraffic{CIDR: r}
		}
	}
	return rules.PodTraffic{}
}
