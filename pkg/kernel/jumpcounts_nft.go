package kernel

import (
	"encoding/binary"
	"errors"

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

// nftJumps asks for the rules of one chain at a time, by one socket.
type nftJumps struct {
	family  uint8
	sockets map[int]*nl.SocketHandle
}

func openNFTJumps(f rules.Family) (jumpReader, error) {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	if err := s.SetReceiveTimeout(&nl.SocketTimeoutTv); err != nil {
		s.Close()
		return nil, err
	}
	out := &nftJumps{family: unix.NFPROTO_IPV4, sockets: map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: s}}}
	if f == rules.IPv6 {
		out.family = unix.NFPROTO_IPV6
	}
	return out, nil
}

func (j *nftJumps) close() {
	for _, s := range j.sockets {
		s.Close()
	}
}

func (j *nftJumps) read(chain string, f func(string, uint64)) error {
	return readWhole(func() error {
		type count struct {
			to      string
			packets uint64
		}
		var counts []count // told once they are all there
		req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|nftMsgGetRule, unix.NLM_F_DUMP)
		req.Sockets = j.sockets
		req.AddData(&nl.Nfgenmsg{NfgenFamily: j.family, Version: nl.NFNETLINK_V0})
		req.AddData(nl.NewRtAttr(nftaRuleTable, nl.ZeroTerminated(string(rules.Nat))))
		req.AddData(nl.NewRtAttr(nftaRuleChain, nl.ZeroTerminated(chain)))
		err := req.ExecuteIter(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|nftMsgNewRule, func(msg []byte) bool {
			if len(msg) >= nl.SizeofNfgenmsg {
				if to, packets := parseJump(msg[nl.SizeofNfgenmsg:]); to != "" {
					counts = append(counts, count{to, packets})
				}
			}
			return true
		})
		if errors.Is(err, unix.ENOENT) {
			return nil // neither table nor chain
		}
		if err != nil {
			return err
		}
		for _, c := range counts {
			f(c.to, c.packets)
		}
		return nil
	})
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
