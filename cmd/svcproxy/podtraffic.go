package main

import (
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"svcproxy/pkg/rules"
)

// The ways to tell traffic of pods, as kube-proxy spells them.
const (
	localByClusterCIDR = "ClusterCIDR"
	localByNodeCIDR    = "NodeCIDR"
	localByBridge      = "BridgeInterface"
	localByPrefix      = "InterfaceNamePrefix"
)

// podTrafficFlags say how traffic of pods is told from other traffic.
type podTrafficFlags struct {
	mode        string
	clusterCIDR []string
	bridge      string
	prefix      string

	cidrs []netip.Prefix // clusterCIDR parsed
}

func (p *podTrafficFlags) addFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&p.clusterCIDR, "cluster-cidr", nil, "`CIDR` of the pods, one for each family; traffic to a cluster IP from elsewhere gets the node as its source")
	fs.StringVar(&p.mode, "detect-local-mode", localByClusterCIDR, "`how` traffic of pods is recognised: ClusterCIDR (--cluster-cidr), NodeCIDR (spec.podCIDRs of the Node), BridgeInterface or InterfaceNamePrefix")
	fs.StringVar(&p.bridge, "pod-bridge-interface", "", "the bridge `interface` that traffic of pods comes in by, for BridgeInterface")
	fs.StringVar(&p.prefix, "pod-interface-name-prefix", "", "the `prefix` of the names of the interfaces that traffic of pods comes in by, for InterfaceNamePrefix")
}

// complete checks the flags and parses them.
func (p *podTrafficFlags) complete() error {
	switch p.mode {
	case "", localByClusterCIDR:
		return p.parseCIDRs()
	case localByNodeCIDR:
	case localByBridge:
		return checkInterface("pod-bridge-interface", p.bridge)
	case localByPrefix:
		return checkInterface("pod-interface-name-prefix", p.prefix)
	default:
		return usagef("--detect-local-mode: %q: must be %s, %s, %s or %s", p.mode, localByClusterCIDR, localByNodeCIDR, localByBridge, localByPrefix)
	}
	return nil
}

// checkInterface accepts what the kernel takes as the name of an interface. A +
// at its end would match others as well.
func checkInterface(flag, name string) error {
	if name == "" {
		return usagef("--%s: is empty, but --detect-local-mode needs it", flag)
	}
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '"' || r == '\\' || r == '!' }
	if len(name) > 15 || strings.ContainsFunc(name, odd) || strings.HasSuffix(name, "+") || strings.HasPrefix(name, "-") {
		return usagef("--%s: %q: is no name of an interface (at most 15 characters)", flag, name)
	}
	return nil
}

func (p *podTrafficFlags) parseCIDRs() error {
	seen := map[rules.Family]bool{}
	for _, s := range p.clusterCIDR {
		if strings.TrimSpace(s) == "" {
			continue // kubeadm passes an empty flag if there is no pod network
		}
		r, err := parseCIDR("cluster-cidr", s)
		if err != nil {
			return err
		}
		f := rules.FamilyOf(r.Addr())
		if seen[f] {
			return usagef("--cluster-cidr: %q: there is one of %s already", s, f)
		}
		seen[f] = true
		p.cidrs = append(p.cidrs, r)
	}
	return nil
}

// parseCIDR reads a range; bits behind its mask are cleared.
func parseCIDR(flag, s string) (netip.Prefix, error) {
	r, err := netip.ParsePrefix(strings.TrimSpace(s))
	if err != nil || r.Addr().Is4In6() {
		return r, usagef("--%s: %q: must be a CIDR such as 10.244.0.0/16", flag, s)
	}
	return r.Masked(), nil
}

// of is what the flags say about one family.
func (p *podTrafficFlags) of(f rules.Family) rules.PodTraffic {
	switch p.mode {
	case localByNodeCIDR:
		return rules.PodTraffic{NodeCIDR: true}
	case localByBridge:
		return rules.PodTraffic{Interface: p.bridge}
	case localByPrefix:
		return rules.PodTraffic{Interface: p.prefix + "+"}
	}
	for _, r := range p.cidrs {
		if rules.FamilyOf(r.Addr()) == f {
			return rules.PodTraffic{CIDR: r}
		}
	}
	return rules.PodTraffic{}
}
