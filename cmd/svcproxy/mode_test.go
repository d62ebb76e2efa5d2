package main

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"svcproxy/pkg/rules"
)

// What another mode's section says holds, and node ports are open where that mode
// opens them.
func TestOtherModesAreServedByIptables(t *testing.T) {
	const nft = "nftables: {masqueradeAll: true, masqueradeBit: 3, syncPeriod: 1m, minSyncPeriod: 5s}\niptables: {localhostNodePorts: true, masqueradeBit: 7, syncPeriod: 2m}\n"
	all, primary := rules.IPv4.All(), rules.NodePortAddresses{Primary: true}
	type outcome struct {
		all         bool
		mark        uint32
		sync, least time.Duration
		ports       rules.NodePortAddresses
	}
	for name, c := range map[string]struct {
		args []string
		file string
		want outcome
	}{
		"nftables": {nil, "mode: nftables\n" + nft, outcome{true, 1 << 3, time.Minute, 5 * time.Second, primary}},
		"nftables, all addresses": {nil, "mode: nftables\nnodePortAddresses: [0.0.0.0/0]\n" + nft,
			outcome{true, 1 << 3, time.Minute, 5 * time.Second, rules.NodePortAddresses{Ranges: []netip.Prefix{all}}}},
		"iptables": {nil, "mode: iptables\n" + nft, outcome{false, 1 << 7, 2 * time.Minute, time.Second,
			rules.NodePortAddresses{Ranges: []netip.Prefix{all}, Localhost: true}}},
		"ipvs": {nil, "mode: ipvs\nipvs: {syncPeriod: 1m}\niptables: {masqueradeAll: true, syncPeriod: 2m}\n",
			outcome{true, 1 << 14, time.Minute, time.Second, rules.NodePortAddresses{Ranges: []netip.Prefix{all}}}},
		"ipvs, at most every 2 s": {nil, "mode: ipvs\nipvs: {minSyncPeriod: 2s}\n",
			outcome{false, 1 << 14, 30 * time.Second, 2 * time.Second, rules.NodePortAddresses{Ranges: []netip.Prefix{all}}}},
		"nftables by flags": {[]string{"--proxy-mode=nftables", "--masquerade-all", "--iptables-masquerade-bit=5", "--iptables-sync-period=1m"}, "",
			outcome{true, 1 << 5, time.Minute, time.Second, primary}},
		"ipvs by flags": {[]string{"--proxy-mode=ipvs", "--ipvs-sync-period=1m", "--iptables-sync-period=2m"}, "",
			outcome{false, 1 << 14, time.Minute, time.Second, rules.NodePortAddresses{Ranges: []netip.Prefix{all}}}},
	} {
		args := c.args
		if c.file != "" {
			args = []string{"--config", configFile(t, c.file)}
		}
		o := configured(t, args...)
		cfg, tables := o.config(rules.IPv4), &o.settings.IPTables
		got := outcome{cfg.MasqueradeAll, cfg.MasqueradeMark, tables.SyncPeriod.Duration, tables.MinSyncPeriod.Duration, cfg.NodePorts}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, c.want)
		}
		if o.settings.Mode != modeIPTables {
			t.Errorf("%s: the mode in force is %s", name, o.settings.Mode)
		}
	}
}

// Each way to tell traffic of pods can be asked for in the file.
func TestLocalTrafficIsDetectedAsTheFileSays(t *testing.T) {
	cidr := rules.PodTraffic{CIDR: netip.MustParsePrefix("10.0.0.0/8")}
	for fields, want := range map[string]map[rules.Family]rules.PodTraffic{
		"clusterCIDR: 10.0.0.0/8\n":                                         {rules.IPv4: cidr},
		"clusterCIDR: 10.0.0.7/8,fd00::/48\ndetectLocalMode: ClusterCIDR\n": {rules.IPv4: cidr, rules.IPv6: {CIDR: netip.MustParsePrefix("fd00::/48")}},
		"clusterCIDR: 10.0.0.0/8\ndetectLocalMode: NodeCIDR\n":              {rules.IPv4: {NodeCIDR: true}, rules.IPv6: {NodeCIDR: true}},
		"detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cbr0, interfaceNamePrefix: veth}\n": {
			rules.IPv4: {Interface: "cbr0"}, rules.IPv6: {Interface: "cbr0"}},
		"detectLocalMode: InterfaceNamePrefix\ndetectLocal: {bridgeInterface: cbr0, interfaceNamePrefix: veth}\n": {
			rules.IPv4: {Interface: "veth+"}, rules.IPv6: {Interface: "veth+"}},
	} {
		o := configured(t, "--config", configFile(t, fields))
		for _, f := range rules.Families() {
			if got := o.config(f).PodTraffic; got != want[f] {
				t.Errorf("%s: %s pods are known by %+v, want %+v", fields, f, got, want[f])
			}
		}
	}
	expectRefused(t, 1, []string{"--config", configFile(t, "detectLocalMode: BridgeInterface\n")}, "detectLocal.bridgeInterface")
	expectRefused(t, 2, []string{"--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth+"}, "--pod-interface-name-prefix", `"veth+"`)
}
