package main

import (
	"time"

	"github.com/spf13/pflag"

	"svcproxy/pkg/kernel"
)

// conntrackFlags are kube-proxy's flags for the sysctls of connection tracking.
type conntrackFlags struct {
	maxPerCore, min          int32
	established, closeWait   time.Duration
	udpTimeout, udpStreaming time.Duration
	beLiberal                bool
}

func (c *conntrackFlags) addFlags(fs *pflag.FlagSet) {
	fs.Int32Var(&c.maxPerCore, "conntrack-max-per-core", 32768, "`connections` tracked per CPU core at most; 0: as the node has it")
	fs.Int32Var(&c.min, "conntrack-min", 131072, "`connections` tracked at the least, however few cores")
	fs.DurationVar(&c.established, "conntrack-tcp-timeout-established", 24*time.Hour, "how long an idle TCP connection is tracked; 0: as the node has it")
	fs.DurationVar(&c.closeWait, "conntrack-tcp-timeout-close-wait", time.Hour, "how long a TCP connection in CLOSE_WAIT is tracked; 0: as the node has it")
	fs.BoolVar(&c.beLiberal, "conntrack-tcp-be-liberal", false, "take TCP packets out of window for valid ones")
	fs.DurationVar(&c.udpTimeout, "conntrack-udp-timeout", 0, "how long a UDP flow without an answer is tracked; 0: as the node has it")
	fs.DurationVar(&c.udpStreaming, "conntrack-udp-timeout-stream", 0, "how long a UDP flow with answers is tracked; 0: as the node has it")
}

func (c *conntrackFlags) complete() error {
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"conntrack-max-per-core", int64(c.maxPerCore)},
		{"conntrack-min", int64(c.min)},
		{"conntrack-tcp-timeout-established", int64(c.established)},
		{"conntrack-tcp-timeout-close-wait", int64(c.closeWait)},
		{"conntrack-udp-timeout", int64(c.udpTimeout)},
		{"conntrack-udp-timeout-stream", int64(c.udpStreaming)},
	} {
		if f.value < 0 {
			return usagef("--%s: must not be negative", f.name)
		}
	}
	return nil
}

// sysctls lists what the flags ask for.
func (c *conntrackFlags) sysctls() []kernel.Sysctl {
	return kernel.Conntrack{
		MaxPerCore: int(c.maxPerCore), Min: int(c.min), BeLiberal: c.beLiberal,
		TCPEstablished: c.established, TCPCloseWait: c.closeWait,
		UDP: c.udpTimeout, UDPStream: c.udpStreaming,
	}.Sysctls()
}
