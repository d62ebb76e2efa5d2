//go:build linux

package kernel

import (
	"slices"

	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// OtherTables lists the tables of nftables whose rules packets of a family come by and
// which iptables knows nothing of, as nft names them: "inet firewalld". They are those
// with a chain of a hook, empty or not. None are listed where the kernel has no
// nftables.
func OtherTables(f rules.Family) ([]string, error) {
	chains, err := nftChains(unix.NFPROTO_UNSPEC)
	if err != nil {
		return nil, err
	}
	own := netlinkFamily(f)
	families := map[uint8]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_NETDEV: "netdev", own: "ip"}
	if f == rules.IPv6 {
		families[own] = "ip6"
	}
	var out []string
	for _, c := range chains {
		ours := c.family == own && slices.Contains(allTables, c.table)
		if family := families[c.family]; c.hooked && !ours && family != "" {
			out = append(out, family+" "+string(c.table))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
