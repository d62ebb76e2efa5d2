//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// generations is the witness of the nft backend. The kernel counts the commits
// to all nftables of a network namespace, of whatever family (linux/netfilter/
// nf_tables.h, NFT_MSG_GETGEN): a number that is higher than what was read plus
// what we wrote since says that somebody else wrote. What they wrote, and who they
// are, is learned from the kernel's notifications; a commit of which nothing was
// heard may have been anything.
type generations struct {
	family  rules.Family
	events  *ruleEvents
	known   uint32 // the last generation in which all that is ours is known; 0: none
	overdue uint32 // the generation whose notifications were missing at the last look
	losses  int    // of notifications, as events counted them at the last look
	seen    bool
	by      []string
}

func (g *generations) reading() {
	g.events.join()
	g.events.settle()
	g.seen, g.by, g.losses = false, nil, g.events.losses
	g.known, _ = generation() // 0 after an error, which the next look meets too
}

// writing compares the generation after a write with the one before: iptables-nft
// makes one commit of each of its transactions, and none of one that fails. Nobody
// listens meanwhile, since for a listener the kernel makes a message of each rule,
// which takes half as long as the commit itself.
func (g *generations) writing(_ map[rules.TableName]rules.Growth, write func() (int, error)) error {
	_, _ = g.interference() // what was written before is told apart from what is written now
	g.events.leave()
	commits, err := write()
	g.events.join()
	g.events.settle()
	now, genErr := generation()
	if genErr != nil || g.known == 0 || now != g.known+uint32(commits) {
		g.seen = true
	} else {
		g.events.own(commits, now)
	}
	g.known, g.losses = now, g.events.losses
	return err
}

func (g *generations) interference() (Interference, error) {
	now, err := generation()
	if err != nil {
		return Interference{}, err
	}
	g.events.collect()
	lost := g.losses != g.events.losses
	g.losses = g.events.losses
	if now != g.known {
		g.follow(now, lost)
	}
	return Interference{Seen: g.seen, By: g.by}, nil
}

// follow goes through the commits that were heard of, up to generation now.
// Notifications come a moment after the generation has changed: a commit without
// any is waited for until the next look, unless some were lost.
func (g *generations) follow(now uint32, lost bool) {
	before := g.known
	for _, c := range g.events.after(g.known) {
		if c.concern.of(g.family) {
			g.seen = true
			g.add(c.by)
		}
		g.known = c.generation
	}
	switch missing := g.known + 1; {
	case g.known == now, g.known != before:
	case g.overdue != missing && !lost:
		g.overdue = missing
	default:
		g.seen, g.known = true, now
	}
}

// maxNames bounds how many are named that wrote.
const maxNames = 5

func (g *generations) add(by string) {
	if len(g.by) < maxNames && !slices.Contains(g.by, by) {
		g.by = append(g.by, by)
	}
}

// Of linux/netfilter/nf_tables.h; package nl has none of it.
const (
	nftMsgDelTable = 2
	nftMsgNewChain = 3
	nftMsgDelChain = 5
	nftMsgNewRule  = 6
	nftMsgDelRule  = 8
	nftMsgNewGen   = 15
	nftMsgGetGen   = 16

	nftaGenID       = 1
	nftaGenProcPID  = 2
	nftaGenProcName = 3

	nftaTableName  = 1
	nftaChainTable = 1
	nftaChainName  = 3
	nftaRuleTable  = 1
	nftaRuleChain  = 2
)

// generation asks for the number of the nftables ruleset. It is never 0.
func generation() (uint32, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|nftMsgGetGen, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|nftMsgNewGen)
	if err == nil && (len(answers) != 1 || len(answers[0]) < nl.SizeofNfgenmsg) {
		err = errors.New("no answer")
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the generation of nftables: %w", err)
	}
	for t, v := range attributes(answers[0][nl.SizeofNfgenmsg:]) {
		if t == nftaGenID && len(v) == 4 {
			return binary.BigEndian.Uint32(v), nil
		}
	}
	return 0, errors.New("ask for the generation of nftables: none in the answer")
}
