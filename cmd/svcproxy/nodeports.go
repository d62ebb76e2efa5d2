package main

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"svcproxy/pkg/rules"
)

// nodePortFlags say on which addresses node ports are open.
type nodePortFlags struct {
	addresses []string
	localhost bool

	primary bool
	ranges  []netip.Prefix
}

func (n *nodePortFlags) addFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&n.addresses, "nodeport-addresses", nil, "where node ports are open: `addresses` of the node within these CIDRs, or primary, localhost, all; empty: all. A family without a CIDR here has them on all its addresses")
	fs.BoolVar(&n.localhost, "iptables-localhost-nodeports", true, "node ports are open on 127.0.0.0/8 too, as far as --nodeport-addresses goes; sets the sysctl route_localnet")
}

// complete expands the keywords as kube-proxy does, and parses the rest.
func (n *nodePortFlags) complete() error {
	for _, s := range n.addresses {
		switch s = strings.TrimSpace(s); s {
		case "":
		case "primary":
			n.primary = true
		case "localhost":
			n.ranges = append(n.ranges, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		case "all":
			n.ranges = append(n.ranges, rules.IPv4.All(), rules.IPv6.All())
		default:
			r, err := parseCIDR("nodeport-addresses", s)
			if err != nil {
				return usagef("%v, or primary, localhost or all", err)
			}
			if !slices.Contains(n.ranges, r) {
				n.ranges = append(n.ranges, r)
			}
		}
	}
	return nil
}

// of is what the flags say about one family. A family that they do not mention
// has node ports on all its addresses, as in kube-proxy; "primary" mentions both.
func (n *nodePortFlags) of(f rules.Family) rules.NodePortAddresses {
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
