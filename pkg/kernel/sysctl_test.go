package kernel

import (
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
)

func TestSysctls(t *testing.T) {
	kerneltest.Enter(t)
	routeLocalnet := func() string {
		return strings.TrimSpace(kerneltest.Run(t, "", "sysctl", "-n", "net.ipv4.conf.all.route_localnet"))
	}
	if v := routeLocalnet(); v != "0" {
		t.Fatalf("route_localnet is %s in a new namespace", v)
	}
	for range 2 {
		if err := RouteLocalnet(); err != nil || routeLocalnet() != "1" {
			t.Errorf("route_localnet is %s, error %v", routeLocalnet(), err)
		}
	}
	for _, v := range []string{"0", "1"} {
		kerneltest.Run(t, "", "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_be_liberal="+v)
		if got := ConntrackLiberal(); got != (v == "1") {
			t.Errorf("liberal with %s: %v", v, got)
		}
	}
}
