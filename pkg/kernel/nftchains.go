//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// nftChain is a chain of nftables, whoever made it.
type nftChain struct {
	family uint8 // NFPROTO_*
	table  rules.TableName
	name   string
	hooked bool   // packets come by it at a hook
	uses   uint32 // rules in it, and rules that lead to it
}

// nftChains lists the chains of a family, NFPROTO_UNSPEC: of all families. There are
// none where the kernel has no nftables. With netlink.ErrDumpInterrupted come those that
// were there all the while: others change them again and again.
func nftChains(family uint8) ([]nftChain, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	var out []nftChain
	err := readWhole(func() error {
		out = out[:0]
		return req.ExecuteIter(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWCHAIN, func(msg []byte) bool {
			if len(msg) >= nl.SizeofNfgenmsg {
				out = append(out, parseNFTChain(msg[0], msg[nl.SizeofNfgenmsg:]))
			}
			return true
		})
	})
	switch {
	case errors.Is(err, netlink.ErrDumpInterrupted):
		return out, fmt.Errorf("list the chains of nftables: %w", err)
	case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL): // no nftables in this kernel
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("list the chains of nftables: %w", err)
	}
	return out, nil
}

func parseNFTChain(family uint8, attrs []byte) nftChain {
	c := nftChain{family: family}
	for t, v := range attributes(attrs) {
		switch t {
		case unix.NFTA_CHAIN_TABLE:
			c.table = rules.TableName(text(v))
		case unix.NFTA_CHAIN_NAME:
			c.name = text(v)
		case unix.NFTA_CHAIN_HOOK:
			c.hooked = true
		case unix.NFTA_CHAIN_USE:
			if len(v) == 4 {
				c.uses = binary.BigEndian.Uint32(v)
			}
		}
	}
	return c
}
