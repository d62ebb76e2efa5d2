//go:build linux

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// ruleEvents listens to what the kernel tells about commits to nftables: a
// message for each rule and chain, then one with the generation and the process.
// Where it cannot listen, it hears nothing.
type ruleEvents struct {
	fd      int // -1: not open
	buffer  []byte
	commits []commit // the last ones, in the order of their generations
	// pending: whom the commit concerns whose messages are coming, or may concern, as
	// some of them were lost.
	pending concern
	losses  int // how often some were lost
}

// concern says of which families rules of ours, or that lead to us, were changed.
type concern struct{ ipv4, ipv6 bool }

func (c concern) of(f rules.Family) bool {
	if f == rules.IPv6 {
		return c.ipv6
	}
	return c.ipv4
}

// commit is one change of the ruleset.
type commit struct {
	generation uint32
	concern    concern
	by         string // "nft (pid 4711)"
}

func newRuleEvents() *ruleEvents { return &ruleEvents{fd: -1} }

// eventBuffer is what the kernel keeps for us between two looks: a busy node's
// changes of a second. What does not fit is lost, which is noticed.
const eventBuffer = 1 << 20

// join listens from now on.
func (e *ruleEvents) join() {
	if e.fd < 0 && !e.open() {
		return
	}
	e.member(unix.NETLINK_ADD_MEMBERSHIP)
}

// leave stops to listen; what was heard before stays.
func (e *ruleEvents) leave() { e.member(unix.NETLINK_DROP_MEMBERSHIP) }

func (e *ruleEvents) member(option int) {
	if e.fd >= 0 && unix.SetsockoptInt(e.fd, unix.SOL_NETLINK, option, unix.NFNLGRP_NFTABLES) != nil {
		e.close()
	}
}

func (e *ruleEvents) open() bool {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return false
	}
	e.fd = fd
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		e.close()
		return false
	}
	// The size that it has anyway does as well, with more commits that may have been anything.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer)
	e.buffer = make([]byte, 64<<10) // more than the largest message
	return true
}

func (e *ruleEvents) close() {
	if e.fd >= 0 {
		_ = unix.Close(e.fd)
	}
	e.fd = -1
}

// collect takes in what has come. After a loss it forgets all commits: which of
// them are complete cannot be told.
func (e *ruleEvents) collect() {
	lost := false
	for e.fd >= 0 {
		n, _, err := unix.Recvfrom(e.fd, e.buffer, 0)
		switch {
		case err == nil:
			e.messages(e.buffer[:n])
		case errors.Is(err, unix.ENOBUFS):
			lost = true
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if lost {
				e.commits, e.pending = nil, concern{true, true}
				e.losses++
			}
			return
		default:
			e.close()
		}
	}
}

// settle takes in what has come, so that what is heard from now on is of
// generations from that of now on: the kernel counts before it tells.
func (e *ruleEvents) settle() {
	e.collect()
	e.pending = concern{}
}

// own notes commits of ours that nobody listened to, up to a generation.
func (e *ruleEvents) own(commits int, last uint32) {
	for i := range uint32(commits) {
		e.add(commit{generation: last - uint32(commits) + 1 + i})
	}
}

// maxCommits bounds what is kept: more than there are between two looks.
const maxCommits = 256

func (e *ruleEvents) add(c commit) {
	if len(e.commits) >= maxCommits {
		e.commits = append(e.commits[:0], e.commits[maxCommits/2:]...)
	}
	e.commits = append(e.commits, c)
}

// after returns the commits that followed a generation without a gap.
func (e *ruleEvents) after(generation uint32) []commit {
	from := slices.IndexFunc(e.commits, func(c commit) bool { return c.generation == generation+1 })
	if from < 0 {
		return nil
	}
	to := from
	for to < len(e.commits) && e.commits[to].generation == generation+1 {
		generation++
		to++
	}
	return e.commits[from:to]
}

// messages reads one datagram of messages.
func (e *ruleEvents) messages(b []byte) {
	for len(b) >= unix.SizeofNlMsghdr {
		size, kind := int(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint16(b[4:])
		if size < unix.SizeofNlMsghdr+nl.SizeofNfgenmsg || size > len(b) {
			return
		}
		family, attrs := b[unix.SizeofNlMsghdr], b[unix.SizeofNlMsghdr+nl.SizeofNfgenmsg:size]
		switch {
		case kind>>8 != unix.NFNL_SUBSYS_NFTABLES:
		case kind&0xff == nftMsgNewGen:
			c := parseGeneration(attrs)
			c.concern, e.pending = e.pending, concern{}
			e.add(c)
		case family == unix.AF_INET:
			e.pending.ipv4 = e.pending.ipv4 || concernsUs(kind&0xff, attrs)
		case family == unix.AF_INET6:
			e.pending.ipv6 = e.pending.ipv6 || concernsUs(kind&0xff, attrs)
		}
		b = b[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
	}
}

func parseGeneration(attrs []byte) commit {
	var c commit
	var name string
	var pid uint32
	for t, v := range attributes(attrs) {
		switch {
		case t == nftaGenID && len(v) == 4:
			c.generation = binary.BigEndian.Uint32(v)
		case t == nftaGenProcPID && len(v) == 4:
			pid = binary.BigEndian.Uint32(v)
		case t == nftaGenProcName:
			name = text(v)
		}
	}
	c.by = fmt.Sprintf("%s (pid %d)", name, pid)
	return c
}

// concernsUs reports whether what a message is about is ours or leads to us. The
// policy of a built-in chain, and that there is one, makes no difference to us.
func concernsUs(kind uint16, attrs []byte) bool {
	var tableAttr, chainAttr uint16
	switch kind {
	case nftMsgDelTable:
		tableAttr = nftaTableName
	case nftMsgNewChain, nftMsgDelChain:
		tableAttr, chainAttr = nftaChainTable, nftaChainName
	case nftMsgNewRule, nftMsgDelRule:
		tableAttr, chainAttr = nftaRuleTable, nftaRuleChain
	default:
		return false
	}
	var table rules.TableName
	var chain string
	for t, v := range attributes(attrs) {
		switch t {
		case tableAttr:
			table = rules.TableName(text(v))
		case chainAttr:
			chain = text(v)
		}
	}
	if !slices.Contains(rules.Tables(), table) {
		return false
	}
	return chainAttr == 0 || rules.Owned(table, chain) || kind != nftMsgNewChain && rules.BuiltIn(table, chain)
}

// text is a string of the kernel's, which ends in a zero byte.
func text(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
