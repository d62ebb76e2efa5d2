//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// Of linux/netfilter/nf_tables.h, not in package nl.
const (
	nftMsgGetRule = 7

	nftaRuleExpressions       = 4
	nftaListElem              = 1
	nftaExprName              = 1
	nftaExprData              = 2
	nftaCounterPackets        = 2
	nftaImmediateData         = 2
	nftaDataVerdict           = 2
	nftaVerdictCode           = 1
	nftaVerdictChain          = 2
	nftJump, nftGoto    int32 = -3, -4
)

// nftJumps asks for the rules of one chain at a time, by one socket and with one
// buffer: package netlink takes a new one of 64 kB for each answer.
type nftJumps struct {
	fd       int
	family   uint8
	sequence uint32
	buffer   []byte
	counts   []jumpCount // of the chain that is read
	changed  bool        // it did while it was read
}

type jumpCount struct {
	to      string
	packets uint64
}

// jumpsBuffer is more than the kernel puts into one answer.
const jumpsBuffer = 64 << 10

func openNFTJumps(f rules.Family) (jumpReader, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &nl.SocketTimeoutTv); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &nftJumps{fd: fd, family: netlinkFamily(f), buffer: make([]byte, jumpsBuffer)}, nil
}

func (j *nftJumps) close() { _ = unix.Close(j.fd) }

func (j *nftJumps) read(chain string, f func(string, uint64)) error {
	if err := readWhole(func() error { return j.dump(chain) }); err != nil {
		return err
	}
	for _, c := range j.counts {
		f(c.to, c.packets)
	}
	return nil
}

// dump reads a chain's rules. A chain or table that is not there has none.
func (j *nftJumps) dump(chain string) error {
	j.counts, j.changed = j.counts[:0], false
	j.sequence++
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|nftMsgGetRule, unix.NLM_F_DUMP)
	req.Seq = j.sequence
	req.AddData(&nl.Nfgenmsg{NfgenFamily: j.family, Version: nl.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(nftaRuleTable, nl.ZeroTerminated(string(rules.Nat))))
	req.AddData(nl.NewRtAttr(nftaRuleChain, nl.ZeroTerminated(chain)))
	if err := unix.Sendto(j.fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(j.fd, j.buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		done, err := j.messages(j.buffer[:n])
		if err == nil && done && j.changed {
			err = netlink.ErrDumpInterrupted
		}
		if done || err != nil {
			return err
		}
	}
}

// messages reads one datagram of messages; done: it has the last one.
func (j *nftJumps) messages(b []byte) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size, kind, flags := int(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return true, errors.New("a message of netlink is cut off")
		}
		body := b[unix.SizeofNlMsghdr:size]
		j.changed = j.changed || flags&unix.NLM_F_DUMP_INTR != 0
		switch {
		case binary.NativeEndian.Uint32(b[8:]) != j.sequence: // of a question that was given up
		case kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR:
			return true, dumpError(body)
		case kind == unix.NFNL_SUBSYS_NFTABLES<<8|nftMsgNewRule && len(body) >= nl.SizeofNfgenmsg:
			if to, packets := parseJump(body[nl.SizeofNfgenmsg:]); to != "" {
				j.counts = append(j.counts, jumpCount{to, packets})
			}
		}
		b = b[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
	}
	return false, nil
}

// dumpError is what the last message says.
func dumpError(body []byte) error {
	if len(body) < 4 {
		return nil
	}
	switch errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body))); errno {
	case 0, unix.ENOENT:
		return nil
	default:
		return errno
	}
}

// parseJump reads a rule: the chain that it leads to, empty if to none, and its
// counter.
func parseJump(rule []byte) (to string, packets uint64) {
	for t, v := range attributes(rule) {
		if t != nftaRuleExpressions {
			continue
		}
		for t, v := range attributes(v) {
			if t != nftaListElem {
				continue
			}
			switch name, data := expression(v); name {
			case "counter":
				packets = counterPackets(data)
			case "immediate":
				to = verdictChain(data)
			}
		}
	}
	return to, packets
}

func expression(b []byte) (name string, data []byte) {
	for t, v := range attributes(b) {
		switch t {
		case nftaExprName:
			name = unix.ByteSliceToString(v)
		case nftaExprData:
			data = v
		}
	}
	return name, data
}

func counterPackets(b []byte) uint64 {
	for t, v := range attributes(b) {
		if t == nftaCounterPackets && len(v) == 8 {
			return binary.BigEndian.Uint64(v)
		}
	}
	return 0
}

// verdictChain is the chain of a jump or goto.
func verdictChain(b []byte) string {
	for t, v := range attributes(b) {
		if t != nftaImmediateData {
			continue
		}
		for t, v := range attributes(v) {
			if t == nftaDataVerdict {
				return jumpTarget(v)
			}
		}
	}
	return ""
}

func jumpTarget(verdict []byte) string {
	code, chain := int32(0), ""
	for t, v := range attributes(verdict) {
		switch {
		case t == nftaVerdictCode && len(v) == 4:
			code = int32(binary.BigEndian.Uint32(v))
		case t == nftaVerdictChain:
			chain = unix.ByteSliceToString(v)
		}
	}
	if code != nftJump && code != nftGoto {
		return ""
	}
	return chain
}
