package main

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	kubeproxy "k8s.io/kube-proxy/config/v1alpha1"
)

// invalid is the error of a field's value. The path is written as in the file.
func invalid(path string, value any, reason string, args ...any) *field.Error {
	return field.Invalid(field.NewPath(path), value, fmt.Sprintf(reason, args...))
}

func checkMode(m kubeproxy.ProxyMode) field.ErrorList {
	if !slices.Contains([]kubeproxy.ProxyMode{modeIPTables, modeIPVS, modeNFTables}, m) {
		return field.ErrorList{invalid("mode", string(m), "must be iptables, ipvs or nftables")}
	}
	return nil
}

// checkAddresses accepts what kube-proxy does: an address with a port. Empty is none.
func checkAddresses(c *configuration) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct{ path, value string }{
		{"healthzBindAddress", c.HealthzBindAddress},
		{"metricsBindAddress", c.MetricsBindAddress},
	} {
		if a, err := netip.ParseAddrPort(f.value); f.value != "" && (err != nil || a.Port() == 0) {
			errs = append(errs, invalid(f.path, f.value, "must be an IP address, with or without a port from 1 to 65535"))
		}
	}
	return errs
}

var minorVersion = regexp.MustCompile(`^([0-9]+\.[0-9]+)?$`)

func checkNumbers(c *configuration) field.ErrorList {
	bitPath, bit := "iptables.masqueradeBit", c.IPTables.MasqueradeBit
	if c.Mode == modeNFTables {
		bitPath, bit = "nftables.masqueradeBit", c.NFTables.MasqueradeBit
	}
	var errs field.ErrorList
	for _, f := range []struct {
		path           string
		value, low, up int32
	}{
		{bitPath, *bit, 0, 31},
		{"oomScoreAdj", *c.OOMScoreAdj, -1000, 1000},
	} {
		if f.value < f.low || f.value > f.up {
			errs = append(errs, invalid(f.path, f.value, "must be %d to %d", f.low, f.up))
		}
	}
	for _, f := range []struct {
		path  string
		value int32
	}{
		{"conntrack.maxPerCore", *c.Conntrack.MaxPerCore},
		{"conntrack.min", *c.Conntrack.Min},
		{"clientConnection.burst", c.ClientConnection.Burst},
	} {
		if f.value < 0 {
			errs = append(errs, invalid(f.path, f.value, "must not be negative"))
		}
	}
	if v := c.ShowHiddenMetricsForVersion; !minorVersion.MatchString(v) {
		errs = append(errs, invalid("showHiddenMetricsForVersion", v, "must be a version such as 1.36"))
	}
	return errs
}

func checkPeriods(c *configuration) field.ErrorList {
	section, sync, least := "iptables", c.IPTables.SyncPeriod.Duration, c.IPTables.MinSyncPeriod.Duration
	switch c.Mode {
	case modeIPVS:
		section, sync, least = "ipvs", c.IPVS.SyncPeriod.Duration, c.IPVS.MinSyncPeriod.Duration
	case modeNFTables:
		section, sync, least = "nftables", c.NFTables.SyncPeriod.Duration, c.NFTables.MinSyncPeriod.Duration
	}
	var errs field.ErrorList
	for _, f := range []struct {
		path  string
		value time.Duration
	}{
		{section + ".minSyncPeriod", least},
		{"conntrack.tcpEstablishedTimeout", c.Conntrack.TCPEstablishedTimeout.Duration},
		{"conntrack.tcpCloseWaitTimeout", c.Conntrack.TCPCloseWaitTimeout.Duration},
		{"conntrack.udpTimeout", c.Conntrack.UDPTimeout.Duration},
		{"conntrack.udpStreamTimeout", c.Conntrack.UDPStreamTimeout.Duration},
	} {
		if f.value < 0 {
			errs = append(errs, invalid(f.path, f.value.String(), "must not be negative"))
		}
	}
	if sync <= 0 || sync < least {
		errs = append(errs, invalid(section+".syncPeriod", sync.String(), "must be greater than 0 and no less than minSyncPeriod, %v", least))
	}
	if c.ConfigSyncPeriod.Duration <= 0 {
		errs = append(errs, invalid("configSyncPeriod", c.ConfigSyncPeriod.Duration.String(), "must be greater than 0"))
	}
	return errs
}
