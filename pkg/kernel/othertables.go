package kernel

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// OtherTables lists the tables of nftables whose rules packets of a family come by and
// which iptables knows nothing of, as nft names them: "inet firewalld". They are those
// with a chain of a hook, empty or not. None are listed where the kernel has no
// nftables.
func OtherTables(f rules.Family) ([]string, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	chains, err := req.Execute(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWCHAIN)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL): // no nftables in this kernel
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list the chains of nftables: %w", err)
	}
	var out []string
	for _, c := range chains {
		if len(c) < nl.SizeofNfgenmsg {
			continue
		}
		if name, ok := otherTable(c[0], c[nl.SizeofNfgenmsg:], f); ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// otherTable returns the table of a chain, if the chain is of a hook that packets of
// the family come by, and the table none of iptables'.
func otherTable(protocol byte, chain []byte, f rules.Family) (name string, ok bool) {
	families := map[byte]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_NETDEV: "netdev"}
	own := byte(unix.NFPROTO_IPV4)
	families[own] = "ip"
	if f == rules.IPv6 {
		delete(families, own)
		own = unix.NFPROTO_IPV6
		families[own] = "ip6"
	}
	table, hooked := "", false
	for t, v := range attributes(chain) {
		switch t {
		case unix.NFTA_CHAIN_TABLE:
			table = nl.BytesToString(v)
		case unix.NFTA_CHAIN_HOOK:
			hooked = true
		}
	}
	ours := protocol == own && slices.Contains(allTables, rules.TableName(table))
	return families[protocol] + " " + table, hooked && !ours && families[protocol] != ""
}
