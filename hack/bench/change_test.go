package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"testing"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// snapshot is n Services with two endpoints each; the first one's endpoints
// depend on generation.
func snapshot(old *rules.Snapshot, n, generation int) *rules.Snapshot {
	snap := &rules.Snapshot{}
	for i := range n {
		if old != nil && i > 0 {
			snap.Services = append(snap.Services, old.Services[i])
			continue
		}
		port := rules.ServicePort{Protocol: rules.TCP, Port: 80}
		for e := range 2 {
			addr := netip.AddrFrom4([4]byte{10, 21, byte(e*2 + (generation+1)%2*e), byte(1 + i%250)})
			port.Endpoints = append(port.Endpoints, rules.Endpoint{Addr: netip.AddrPortFrom(addr, 80), Ready: true, Serving: true})
		}
		snap.Services = append(snap.Services, &rules.Service{
			Namespace: "ns", Name: fmt.Sprintf("s%05d", i),
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i / 250), byte(1 + i%250)})},
			Ports:      []rules.ServicePort{port},
		})
	}
	return snap
}

// BenchmarkOneChange is one endpoint of one of 100 Services changed: what
// svcproxy writes ("changed"), beside a restore of all rules ("all"), which is
// what a proxy without a plan does.
func BenchmarkOneChange(b *testing.B) {
	const services = 100
	for _, backend := range []kernel.Backend{kernel.NFT, kernel.Legacy} {
		for _, whole := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/%s", backend, map[bool]string{false: "changed", true: "all"}[whole]), func(b *testing.B) {
				kerneltest.Enter(b)
				host := kernel.NewHost(backend)
				defer host.Close()
				tables, err := host.Tables(rules.IPv4)
				if err != nil {
					b.Fatal(err)
				}
				changeOne(b, tables, string(backend), services, whole)
			})
		}
	}
}

func changeOne(b *testing.B, tables *kernel.Tables, backend string, services int, whole bool) {
	ctx, builder := context.Background(), rules.NewBuilder(rules.Config{Family: rules.IPv4, MasqueradeMark: 0x4000})
	snap := snapshot(nil, services, 0)
	have := builder.Build(snap)
	if err := tables.Apply(ctx, rules.NewPlan(&rules.Ruleset{}, have, 0)); err != nil {
		b.Fatal(err)
	}
	for generation := 1; b.Loop(); generation++ {
		snap = snapshot(snap, services, generation)
		want := builder.Build(snap)
		if whole {
			plan := rules.NewPlan(&rules.Ruleset{}, want, 0)
			for i := range plan.Transactions {
				plan.Transactions[i].Jumps = nil // they are there
			}
			cmd := exec.Command("iptables-"+backend+"-restore", "-w", "5", "--noflush")
			cmd.Stdin = bytes.NewReader(rules.RenderPlan(plan))
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		} else if err := tables.Apply(ctx, rules.NewPlan(have, want, 0)); err != nil {
			b.Fatal(err)
		}
		have = want
	}
}
