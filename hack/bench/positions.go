package main

import (
	"net/netip"
	"strings"
)

// servicesIn lists the cluster IPs in the order of the rules that jump to a
// Service's chain.
func servicesIn(save []byte) []netip.Addr {
	var out []netip.Addr
	for line := range strings.Lines(string(save)) {
		if !strings.Contains(line, "-j KUBE-SVC-") && !strings.Contains(line, "-g KUBE-SVC-") {
			continue
		}
		_, rest, ok := strings.Cut(line, " -d ")
		if !ok {
			continue
		}
		text, _, _ := strings.Cut(rest, "/32 ")
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a)
		}
	}
	return out
}
