package proxy

import (
	"context"
	"testing"
	"time"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// What others do to the rules of a running proxy is undone, on a real kernel, with
// both families of a host.
func TestARealKernelIsSetRight(t *testing.T) {
	for _, b := range []kernel.Backend{kernel.NFT, kernel.Legacy} {
		t.Run(string(b), func(t *testing.T) {
			kerneltest.Enter(t)
			host := kernel.NewHost(b)
			t.Cleanup(host.Close)
			var families []Family
			for _, f := range rules.Families() {
				tables, err := host.Tables(f)
				if err != nil {
					t.Fatal(err)
				}
				families = append(families, Family{Config: rules.Config{Family: f, MasqueradeMark: 0x4000}, Kernel: tables})
			}
			seen := make(drifts, 1000)
			src := source{make(chan struct{}, 1)}
			p := New(src, families, Options{SyncPeriod: time.Hour, MinSyncPeriod: time.Millisecond, Drifted: seen.drifted})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			src.changed <- struct{}{}
			hit := kerneltest.Beside(t, func() {
				defer cancel()
				for !p.Health().Healthy() {
					time.Sleep(10 * time.Millisecond)
				}
				breakAll(t, string(b), seen)
			})
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
			<-hit
		})
	}
}

// breakAll does damage of every kind and waits each time until it is set right.
func breakAll(t *testing.T, backend string, seen drifts) {
	for _, f := range rules.Families() {
		ipt := map[rules.Family]string{rules.IPv4: "iptables-", rules.IPv6: "ip6tables-"}[f] + backend
		save := func() string { return kerneltest.Run(t, "", ipt, "-t", "nat", "-S") + kerneltest.Run(t, "", ipt, "-S") }
		before := save()
		for _, d := range []struct{ what, kind string }{
			{"-t nat -F", "nat jump_missing"},
			{"-F KUBE-FORWARD", "filter chain_changed"},
			{"-t nat -D KUBE-POSTROUTING 1", "nat chain_changed"},
			{"-t nat -I KUBE-SERVICES -j RETURN", "nat chain_changed"},
			{"-D FORWARD 2", "filter jump_missing"},
			{"-t nat -N KUBE-SVC-NOBODYS", "nat chain_stale"},
		} {
			kerneltest.Run(t, "", "sh", "-c", ipt+" "+d.what)
			wanted, end := f.String()+" "+d.kind, time.After(20*time.Second)
			for kind := ""; kind != wanted; {
				select {
				case kind = <-seen:
				case <-end:
					t.Errorf("%s %s: waited in vain for %s", ipt, d.what, wanted)
					return
				}
			}
			for range 500 {
				if save() == before {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if after := save(); after != before {
				t.Errorf("%s %s: set right it is\n%s\nbefore:\n%s", ipt, d.what, after, before)
			}
		}
	}
}
