package kernel

import (
	"fmt"
	"os"
	"strings"
)

const sysctls = "/proc/sys/net/"

// ConntrackLiberal reports whether the node tells conntrack to take TCP packets
// out of window for valid ones. If the sysctl is not there, it does not.
func ConntrackLiberal() bool {
	v, err := readSysctl("netfilter/nf_conntrack_tcp_be_liberal")
	return err == nil && v != "0"
}

// RouteLocalnet lets the kernel route packets from IPv4 loopback addresses to
// other hosts, which node ports on localhost need (kubernetes#90259). The rules
// that guard these addresses from outside must be there before.
func RouteLocalnet() error {
	const name = "ipv4/conf/all/route_localnet"
	if v, err := readSysctl(name); err == nil && v == "1" {
		return nil
	}
	if err := os.WriteFile(sysctls+name, []byte("1"), 0); err != nil {
		return fmt.Errorf("node ports are closed on localhost: set net.ipv4.conf.all.route_localnet: %w; set it to 1 before, or give --iptables-localhost-nodeports=false", err)
	}
	return nil
}

func readSysctl(name string) (string, error) {
	text, err := os.ReadFile(sysctls + name)
	return strings.TrimSpace(string(text)), err
}
