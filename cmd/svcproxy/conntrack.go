package main

import (
	"svcproxy/pkg/kernel"
)

// conntrackSysctls lists what is asked for of connection tracking.
func (s *settings) conntrackSysctls() []kernel.Sysctl {
	c := &s.Conntrack
	return kernel.Conntrack{
		MaxPerCore: int(*c.MaxPerCore), Min: int(*c.Min), BeLiberal: c.TCPBeLiberal,
		TCPEstablished: c.TCPEstablishedTimeout.Duration, TCPCloseWait: c.TCPCloseWaitTimeout.Duration,
		UDP: c.UDPTimeout.Duration, UDPStream: c.UDPStreamTimeout.Duration,
	}.Sysctls()
}
