package kernel

import (
	"strings"
	"testing"
	"time"

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
		if err := Ensure([]Sysctl{RouteLocalnet}); err != nil || routeLocalnet() != "1" {
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

func TestEnsureSetsTimeouts(t *testing.T) {
	kerneltest.Enter(t)
	settings := Conntrack{TCPEstablished: 3 * time.Hour, TCPCloseWait: time.Hour, UDP: 20 * time.Second, UDPStream: 100 * time.Millisecond, BeLiberal: true}.Sysctls()
	if err := Ensure(settings); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"tcp_timeout_established": "10800", "tcp_timeout_close_wait": "3600", "udp_timeout": "20", "udp_timeout_stream": "1", "tcp_be_liberal": "1",
	} {
		if got := strings.TrimSpace(kerneltest.Run(t, "", "sysctl", "-n", "net.netfilter.nf_conntrack_"+name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// Only the first network namespace may change how many connections are tracked:
// what is there is enough, or an error says what is not.
func TestEnsureMaxConnections(t *testing.T) {
	kerneltest.Enter(t)
	if err := Ensure(Conntrack{MaxPerCore: 1, Min: 4}.Sysctls()); err != nil {
		t.Errorf("more connections than asked for: %v", err)
	}
	err := Ensure(Conntrack{MaxPerCore: maxConntrack}.Sysctls())
	if want := "set net.netfilter.nf_conntrack_max=1048576: "; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}
