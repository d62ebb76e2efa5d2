package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

const manyServices = 10000

// cluster is a Service "web" that is served at 10.96.255.1:80 and others, n of
// them, in the same network: some with node ports, every thousandth with so many
// endpoints that these are in buckets, and with session affinity.
func cluster(n int) *rules.Snapshot {
	snap := &rules.Snapshot{}
	service := func(name string, vip netip.Addr, eps ...netip.Addr) *rules.Service {
		svc := &rules.Service{
			Namespace: "ns", Name: name, ClusterIPs: []netip.Addr{vip},
			Ports: []rules.ServicePort{{Protocol: rules.TCP, Port: 80}},
		}
		for _, ep := range eps {
			svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, rules.Endpoint{Addr: netip.AddrPortFrom(ep, 8080), Ready: true, Serving: true})
		}
		snap.Services = append(snap.Services, svc)
		return svc
	}
	for i := range n {
		var eps []netip.Addr
		endpoints := 1
		if i%1000 == 0 {
			endpoints = 40
		}
		for e := range endpoints {
			eps = append(eps, netip.AddrFrom4([4]byte{10, byte(22 + e), byte(i >> 8), byte(i)}))
		}
		svc := service(fmt.Sprintf("other-%05d", i), netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), eps...)
		if i < 2000 {
			svc.Ports[0].NodePort = uint16(30000 + i)
		}
		if len(eps) > 1 {
			svc.AffinitySeconds = 600
		}
	}
	service("web", netip.MustParseAddr("10.96.255.1"), netip.MustParseAddr("10.21.0.1"))
	return snap
}

// While 10,000 Services are loaded and removed, transaction by transaction, a
// Service that was there before takes every connection; then all reads back as
// what was written.
func TestNoConnectionIsLostDuringALoad(t *testing.T) {
	for backend, maxChains := range natChains {
		t.Run(string(backend), func(t *testing.T) {
			kerneltest.Enter(t)
			kerneltest.Run(t, "", "ip", "addr", "add", "10.21.0.1/32", "dev", "lo")
			kerneltest.Run(t, "", "ip", "route", "add", "10.96.0.0/16", "dev", "lo")
			// So many clients that no connection meets what is left of an earlier one
			// from the same port.
			var clients [64]net.Dialer
			for i := range clients {
				ip := net.IPv4(10, 20, 0, byte(i+1))
				kerneltest.Run(t, "", "ip", "addr", "add", ip.String()+"/32", "dev", "lo")
				clients[i] = net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: ip}}
			}
			serve(t, "10.21.0.1:8080")
			host := NewHost(backend)
			t.Cleanup(host.Close)
			tables, err := host.Tables(rules.IPv4)
			if err != nil {
				t.Fatal(err)
			}
			builder := rules.NewBuilder(rules.Config{
				Family: rules.IPv4, MasqueradeMark: 0x4000, NodePorts: rules.NodePortAddresses{Ranges: []netip.Prefix{rules.IPv4.All()}},
			})
			have := builder.Build(cluster(0))
			apply(t, tables, rules.NewPlan(&rules.Ruleset{Family: rules.IPv4}, have, maxChains))
			for _, n := range []int{manyServices, 0} {
				want := builder.Build(cluster(n))
				plan := rules.NewPlan(have, want, maxChains)
				loaded := kerneltest.Beside(t, func() { apply(t, tables, plan) })
				have = want
				tries, began := 0, time.Now()
				for done := false; !done; tries++ {
					select {
					case <-loaded:
						done = true
					default:
					}
					conn, err := clients[tries%len(clients)].Dial("tcp", "10.96.255.1:80")
					if err != nil {
						t.Fatalf("%d Services: connection %d, %v after the load began: %v", n, tries, time.Since(began), err)
					}
					_ = conn.Close()
				}
				read, err := tables.Read(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if left := rules.NewPlan(read, want, maxChains); len(left.Transactions) > 0 {
					t.Errorf("%d Services: read back, %d transactions seem to be missing, the first with %d chains", n, len(left.Transactions), len(left.Transactions[0].Write))
				}
				t.Logf("%d Services loaded in %v, %d connections meanwhile", n, time.Since(began), tries)
			}
		})
	}
}

// The longest way that there is, through a tree of addresses in a row, the source ranges
// of a load balancer and groups of buckets of endpoints, is one that the kernel takes:
// iptables-nft allows 15 chains in a row.
func TestTheLongestWayIsLoaded(t *testing.T) {
	for _, backend := range []Backend{NFT, Legacy} {
		t.Run(string(backend), func(t *testing.T) {
			kerneltest.Enter(t)
			snap := cluster(5000)
			for i, svc := range snap.Services[:5000] {
				const network = 198<<24 | 18<<16
				addrs := []uint32{network | uint32(i)}
				if bit := 31 - i/20; bit > 17 {
					addrs = append(addrs, network^1<<bit|uint32(i%20)<<3) // like the others but for one bit
				}
				for _, a := range addrs {
					svc.LoadBalancerIPs = append(svc.LoadBalancerIPs, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a))))
				}
			}
			deep := snap.Services[2345]
			deep.RestrictSources, deep.SourceRanges = true, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			for i := range 1000 {
				ep := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 21, byte(i >> 8), byte(i)}), 8080)
				deep.Ports[0].Endpoints = append(deep.Ports[0].Endpoints, rules.Endpoint{Addr: ep, Ready: true, Serving: true})
			}
			want := rules.Build(snap, rules.Config{Family: rules.IPv4, MasqueradeMark: 0x4000, PodTraffic: rules.PodTraffic{CIDR: netip.MustParsePrefix("10.21.0.0/16")}})
			if got := chainsInARow(want.Table(rules.Nat), "KUBE-SERVICES"); got != 15 {
				t.Errorf("%d chains in a row are tried, not 15", got)
			}
			apply(t, tablesOf(t, NewHost(backend), rules.IPv4), rules.NewPlan(&rules.Ruleset{Family: rules.IPv4}, want, natChains[backend]))
		})
	}
}

// natChains is how many chains go into a transaction, as svcproxy has it.
var natChains = map[Backend]int{NFT: 1000, Legacy: 0}

// chainsInARow is the length of the longest way from a chain.
func chainsInARow(nat *rules.Table, chain string) int {
	below := 0
	if c := nat.Chain(chain); c != nil {
		for i := range c.Rules {
			if to := c.Rules[i].Jump(); to != "" {
				below = max(below, chainsInARow(nat, to))
			}
		}
	}
	return 1 + below
}

func apply(t *testing.T, tables *Tables, plan *rules.Plan) {
	if err := tables.Apply(context.Background(), plan); err != nil {
		t.Error(err)
	}
}

// serve takes connections and closes them.
func serve(t *testing.T, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
}
