//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcproxy/pkg/rules"
)

// kube-proxy's other modes leave things behind that go on catching packets.
const (
	nftablesModeTable = "kube-proxy" // nftables mode: one in each family
	ipvsModeLink      = "kube-ipvs0" // ipvs mode: has all addresses of Services
)

// RemoveNFTablesMode removes the table of kube-proxy's nftables mode, as kube-proxy
// itself does before it serves in another mode, and reports whether there was one.
func RemoveNFTablesMode(f rules.Family) (bool, error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE, unix.NLM_F_ACK)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: netlinkFamily(f), Version: nl.NFNETLINK_V0})
	request.AddData(nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(nftablesModeTable)))
	err := commitNFTables(request)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP): // no table, or no nftables in this kernel
		return false, nil
	case err != nil:
		return false, fmt.Errorf("remove table %s of nftables: %w", nftablesModeTable, err)
	}
	return true, nil
}

// commitNFTables sends a change of nftables, which the kernel takes only as part of
// a batch, and waits for what it says.
func commitNFTables(request *nl.NetlinkRequest) error {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.SetReceiveTimeout(&unix.Timeval{Sec: 10}); err != nil {
		return err
	}
	batch := batchMark(unix.NFNL_MSG_BATCH_BEGIN)
	batch = append(batch, request.Serialize()...)
	batch = append(batch, batchMark(unix.NFNL_MSG_BATCH_END)...)
	if err := unix.Sendto(s.GetFd(), batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	messages, _, err := s.Receive()
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4 {
			if code := int32(nl.NativeEndian().Uint32(m.Data)); code != 0 {
				return syscall.Errno(-code)
			}
		}
	}
	return nil
}

// batchMark is the first or last message of a batch for nftables.
func batchMark(kind int) []byte {
	m := nl.NewNetlinkRequest(kind, 0)
	m.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0, ResId: nl.Swap16(unix.NFNL_SUBSYS_NFTABLES)})
	return m.Serialize()
}

// HasIPVSMode reports whether kube-proxy's ipvs mode has left its addresses here.
func HasIPVSMode() bool {
	_, err := netlink.LinkByName(ipvsModeLink)
	return err == nil
}
