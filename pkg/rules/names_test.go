package rules

import (
	"net/netip"
	"testing"
)

// The vectors are what kube-proxy itself writes.
func TestChainNamesAreKubeProxys(t *testing.T) {
	for _, c := range []struct {
		id       string
		protocol Protocol
		endpoint string // empty: the service's own hash
		want     string
	}{
		{"ns1/svc1:p80", TCP, "", "XPGD46QRK7WJZT7O"},
		{"default/kubernetes:https", TCP, "", "NPX46M4PTMTKRN6Y"},
		{"kube-system/kube-dns:dns", UDP, "", "TCOU7JCQXEZGVUNU"},
		{"ns-test/nginx-service", TCP, "", "CMGMSCGHDBTF4CTN"},
		{"ns1/svc1:p80", TCP, "10.180.0.1:80", "KUBE-SEP-SXIVWICOYRO3J4NJ"},
		{"ns-test/nginx-service", TCP, "10.21.1.2:80", "KUBE-SEP-OVC3HE6GXAJ6EVUM"},
		{"ns-test/nginx-service", TCP, "[fd00:10:21:1::2]:80", "KUBE-SEP-54LX4R5O7CQEBZKQ"},
	} {
		got := serviceHash(c.id, c.protocol)
		if c.endpoint != "" {
			got = endpointChain(c.id, c.protocol, netip.MustParseAddrPort(c.endpoint))
		}
		if got != c.want {
			t.Errorf("%s %s %s: got %s, want %s", c.id, c.protocol, c.endpoint, got, c.want)
		}
	}
}
