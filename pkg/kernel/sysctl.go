package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// SysctlDir is where the kernel shows the sysctls of net.
const SysctlDir = "/proc/sys/net"

// Sysctl is a setting below net. that the node must have.
type Sysctl struct {
	Name  string // below net., with slashes, as netfilter/nf_conntrack_max
	Value int
	Least bool // a larger value is as good
}

// String returns the setting as sysctl takes it.
func (s Sysctl) String() string {
	return fmt.Sprintf("net.%s=%d", strings.ReplaceAll(s.Name, "/", "."), s.Value)
}

// Ensure sets what is not set yet. It needs no right to write where nothing is to
// be written. All are tried; the error joins those that failed.
func Ensure(settings []Sysctl) error { return EnsureIn(SysctlDir, settings) }

// EnsureIn does the same where the sysctls of net are shown in another folder: the
// one of a container is read-only.
func EnsureIn(dir string, settings []Sysctl) error {
	var errs []error
	for _, s := range settings {
		if s.holds(dir) {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, s.Name), []byte(strconv.Itoa(s.Value)), 0); err != nil {
			errs = append(errs, fmt.Errorf("set %s: %w", s, err))
		}
	}
	return errors.Join(errs...)
}

func (s Sysctl) holds(dir string) bool {
	text, err := readSysctl(dir, s.Name)
	if err != nil {
		return false
	}
	v, err := strconv.Atoi(text)
	return err == nil && (v == s.Value || s.Least && v > s.Value)
}

// Conntrack is how the node tracks connections. Zero leaves a setting as it is.
type Conntrack struct {
	MaxPerCore, Min int // connections; Min counts only with MaxPerCore
	TCPEstablished  time.Duration
	TCPCloseWait    time.Duration
	UDP, UDPStream  time.Duration
	BeLiberal       bool // packets out of window are valid
}

// maxConntrack bounds what is asked for on machines with very many cores.
const maxConntrack = 1 << 20

// Sysctls returns the settings that differ from leaving all as it is, as
// kube-proxy works them out.
func (c Conntrack) Sysctls() []Sysctl {
	const prefix = "netfilter/nf_conntrack_"
	var out []Sysctl
	if c.MaxPerCore > 0 {
		most := min(max(c.MaxPerCore*runtime.NumCPU(), c.Min), maxConntrack)
		out = append(out,
			Sysctl{Name: prefix + "max", Value: most, Least: true},
			Sysctl{Name: prefix + "buckets", Value: most / 4, Least: true})
	}
	for _, t := range []struct {
		name  string
		value time.Duration
	}{
		{"tcp_timeout_established", c.TCPEstablished},
		{"tcp_timeout_close_wait", c.TCPCloseWait},
		{"udp_timeout", c.UDP},
		{"udp_timeout_stream", c.UDPStream},
	} {
		if t.value > 0 {
			out = append(out, Sysctl{Name: prefix + t.name, Value: max(1, int(t.value/time.Second))})
		}
	}
	if c.BeLiberal {
		out = append(out, Sysctl{Name: prefix + "tcp_be_liberal", Value: 1})
	}
	return out
}

// RouteLocalnet lets the kernel route packets from IPv4 loopback addresses to
// other hosts, which node ports on localhost need (kubernetes#90259). The rules
// that guard these addresses from outside are to be there before: ours, or
// kubelet's, which are the same.
var RouteLocalnet = Sysctl{Name: "ipv4/conf/all/route_localnet", Value: 1}

// ConntrackLiberal reports whether the node tells conntrack to take TCP packets
// out of window for valid ones. If the sysctl is not there, it does not.
func ConntrackLiberal() bool {
	v, err := readSysctl(SysctlDir, "netfilter/nf_conntrack_tcp_be_liberal")
	return err == nil && v != "0"
}

func readSysctl(dir, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(text)), err
}
