package kernel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

const manyServices = 10000

// cluster is a Service "web" that is served at 10.96.255.1:80 and others, n of
// them, in the same network.
func cluster(n int) *rules.Snapshot {
	snap := &rules.Snapshot{}
	service := func(name string, vip, ep netip.Addr) {
		snap.Services = append(snap.Services, &rules.Service{
			Namespace: "ns", Name: name, ClusterIPs: []netip.Addr{vip},
			Ports: []rules.ServicePort{{Protocol: rules.TCP, Port: 80, Endpoints: []rules.Endpoint{
				{Addr: netip.AddrPortFrom(ep, 8080), Ready: true, Serving: true},
			}}},
		})
	}
	for i := range n {
		service(fmt.Sprintf("other-%05d", i), netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{10, 22, byte(i >> 8), byte(i)}))
	}
	service("web", netip.MustParseAddr("10.96.255.1"), netip.MustParseAddr("10.21.0.1"))
	return snap
}

// While 10,000 Services are loaded and removed, transaction by transaction, a
// Service that was there before takes every connection.
func TestNoConnectionIsLostDuringALoad(t *testing.T) {
	for backend, maxChains := range map[Backend]int{NFT: 200, Legacy: 0} {
		t.Run(string(backend), func(t *testing.T) {
			kerneltest.Enter(t)
			kerneltest.Run(t, "", "ip", "addr", "add", "10.21.0.1/32", "dev", "lo")
			kerneltest.Run(t, "", "ip", "route", "add", "10.96.0.0/16", "dev", "lo")
			serve(t, "10.21.0.1:8080")
			tables, err := New(rules.IPv4, backend)
			if err != nil {
				t.Fatal(err)
			}
			builder := rules.NewBuilder(rules.Config{Family: rules.IPv4, MasqueradeMark: 0x4000})
			have := builder.Build(cluster(0))
			apply(t, tables, rules.NewPlan(&rules.Ruleset{Family: rules.IPv4}, have, maxChains))
			for _, n := range []int{manyServices, 0} {
				want := builder.Build(cluster(n))
				plan := rules.NewPlan(have, want, maxChains)
				loaded := inSameNamespace(t, func() { apply(t, tables, plan) })
				have = want
				tries, began := 0, time.Now()
				for done := false; !done; tries++ {
					select {
					case <-loaded:
						done = true
					default:
					}
					conn, err := net.DialTimeout("tcp", "10.96.255.1:80", time.Second)
					if err != nil {
						t.Fatalf("%d Services: connection %d, %v after the load began: %v", n, tries, time.Since(began), err)
					}
					// A reset leaves nothing behind that a later connection could meet.
					_ = conn.(*net.TCPConn).SetLinger(0)
					_ = conn.Close()
				}
				t.Logf("%d Services loaded in %v, %d connections meanwhile", n, time.Since(began), tries)
			}
		})
	}
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

// inSameNamespace runs f on another thread in the network namespace of the
// caller; the channel is closed when it is done.
func inSameNamespace(t *testing.T, f func()) <-chan struct{} {
	t.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = ns.Close() }()
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	return done
}
