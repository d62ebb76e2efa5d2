package watch

import (
	"net/netip"
	"slices"
	"strings"
)

// parseAddr reads an IP address. The reason says what is wrong with it; empty:
// nothing. Leading zeros are refused: some read them as octal, so no choice of
// ours could be right for all (CVE-2021-29923).
func parseAddr(s string) (addr netip.Addr, reason string) {
	a, err := netip.ParseAddr(s)
	switch {
	case s == "":
		return a, "is empty"
	case err != nil:
		_, why, _ := strings.Cut(err.Error(), "): ")
		return a, "is no IP address: " + why
	case a.Is4In6():
		return a, "is an IPv4 address mapped into IPv6"
	case a.Zone() != "":
		return a, "has a zone"
	}
	return a, ""
}

// parseUnicast reads an address that traffic can be sent to from anywhere. The
// others would let whoever writes an object reach what listens on the node alone
// (CVE-2021-25737).
func parseUnicast(s string) (addr netip.Addr, reason string) {
	a, reason := parseAddr(s)
	if reason != "" {
		return a, reason
	}
	switch {
	case a.IsUnspecified():
		reason = "is the unspecified address"
	case a.IsLoopback():
		reason = "is a loopback address"
	case a.IsLinkLocalUnicast():
		reason = "is a link-local address"
	case a.IsMulticast():
		reason = "is a multicast address"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		reason = "is the broadcast address"
	}
	return a, reason
}

// parseRange reads a CIDR; bits behind its mask are cleared.
func parseRange(s string) (r netip.Prefix, reason string) {
	p, err := netip.ParsePrefix(s)
	switch {
	case s == "":
		return p, "is empty"
	case err != nil:
		_, why, _ := strings.Cut(err.Error(), "): ")
		return p, "is no CIDR: " + why
	case p.Addr().Is4In6():
		return p, "is an IPv4 range mapped into IPv6"
	}
	return p.Masked(), ""
}

func sortAddrs(addrs []netip.Addr) []netip.Addr {
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}
