package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

// logged returns a context, and where what is logged in it can be read.
func logged() (context.Context, *bytes.Buffer) {
	var out bytes.Buffer
	return klog.NewContext(context.Background(), textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&out)))), &out
}

// remarks is what is logged of the options.
func remarks(t *testing.T, o *options) string {
	t.Helper()
	ctx, out := logged()
	o.remark(ctx)
	return out.String()
}

// What does not apply is named, in one line, by who says it.
func TestRemarks(t *testing.T) {
	ipvs := "mode: iptables\nipvs: {scheduler: rr, syncPeriod: 1m}\nnftables: {masqueradeAll: true}\nwinkernel: {enableDSR: true}\n" +
		"portRange: 1-2\nwindowsRunAsService: true\nconfigSyncPeriod: 1m\nshowHiddenMetricsForVersion: \"1.36\"\n" +
		"featureGates: {NFTablesNetlink: false, AllowServiceExternalIPs: false, WatchListClient: false, ComponentFlagz: true}\n"
	for _, c := range []struct {
		args  []string
		file  string // fields; empty: none
		lines []string
	}{
		{nil, "", nil},
		{[]string{"--ipvs-sync-period=30s", "--iptables-min-sync-period=0s", "--metrics-bind-address=", "--healthz-port=0"}, "", nil},
		{[]string{"--ipvs-scheduler=rr", "--config-sync-period=1m", "--show-hidden-metrics-for-version=1.36", "--feature-gates=NFTablesNetlink=false"}, "",
			[]string{`settings=["--config-sync-period","--ipvs-scheduler","--show-hidden-metrics-for-version","--feature-gates"]`}},
		{nil, ipvs, []string{`settings=["configSyncPeriod","ipvs.scheduler","ipvs.syncPeriod","nftables.masqueradeAll","portRange",` +
			`"showHiddenMetricsForVersion","windowsRunAsService","winkernel.enableDSR","featureGates[NFTablesNetlink]"]`}},
		{[]string{"-v=2", "--hostname-override=a", "--master=https://x", "--masquerade-all", "--kubeconfig=/k", "--ipvs-scheduler=rr", "--metrics-port=1"}, "mode: iptables\n",
			[]string{`flags=["--metrics-port","--kubeconfig","--masquerade-all","--ipvs-scheduler"]`}},
		{nil, "mode: ipvs\nipvs: {syncPeriod: 1m, minSyncPeriod: 2s, strictARP: true}\n", []string{`mode="ipvs"`, `settings=["ipvs.strictARP"]`}},
		{nil, "mode: nftables\nnftables: {masqueradeAll: true, masqueradeBit: 3, syncPeriod: 1m}\n", []string{`mode="nftables"`}},
		{[]string{"--proxy-mode=nftables", "--masquerade-all"}, "", []string{`mode="nftables"`}},
	} {
		args := c.args
		if c.file != "" {
			args = append(args, "--config", configFile(t, c.file))
		}
		got := strings.Split(strings.TrimSuffix(remarks(t, configured(t, args...)), "\n"), "\n")
		if got[0] == "" {
			got = nil
		}
		for i := range max(len(got), len(c.lines)) {
			if i >= len(got) || i >= len(c.lines) || !strings.Contains(got[i], c.lines[i]) {
				t.Errorf("%v %s: it says\n%s\nwant lines with\n%s", c.args, c.file, strings.Join(got, "\n"), strings.Join(c.lines, "\n"))
				break
			}
		}
	}
}
