package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// manyServices is a snapshot of n Services with two endpoints each, spread over a
// service network as the API server spreads them.
func manyServices(n int) *Snapshot {
	snap := &Snapshot{Node: Node{Name: "node"}}
	for i := range n {
		spread := uint32(i) * 2654435761 >> 16 // no two alike below 65,536
		svc := &Service{
			Namespace: "bench", Name: fmt.Sprintf("service-%05d", i),
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(spread >> 8), byte(spread)})},
			Ports:      []ServicePort{{Name: "http", Protocol: TCP, Port: 80, Endpoints: endpointsOf(2*i, 2)}},
		}
		snap.Services = append(snap.Services, svc)
	}
	return snap
}

func endpointsOf(first, n int) []Endpoint {
	var out []Endpoint
	for i := first; i < first+n; i++ {
		addr := netip.AddrFrom4([4]byte{10, 21 + byte(i>>16), byte(i >> 8), byte(i)})
		out = append(out, Endpoint{Addr: netip.AddrPortFrom(addr, 8080), Ready: true, Serving: true})
	}
	return out
}

// withOther is the snapshot with other endpoints for one Service.
func withOther(snap *Snapshot, i, generation int) *Snapshot {
	svc := *snap.Services[i]
	svc.Ports = slices.Clone(svc.Ports)
	svc.Ports[0].Endpoints = endpointsOf(1<<18+generation%1000, 2)
	out := *snap
	out.Services = slices.Clone(snap.Services)
	out.Services[i] = &svc
	return &out
}

const benchServices = 10000

func BenchmarkBuild(b *testing.B) {
	snap := manyServices(benchServices)
	for b.Loop() {
		Build(snap, testConfig(IPv4))
	}
}

func BenchmarkBuildOneChange(b *testing.B) {
	snap := manyServices(benchServices)
	builder := NewBuilder(testConfig(IPv4))
	builder.Build(snap)
	i := 0
	for b.Loop() {
		i++
		builder.Build(withOther(snap, 77, i))
	}
}

func BenchmarkPlanOneChange(b *testing.B) {
	snap := manyServices(benchServices)
	builder := NewBuilder(testConfig(IPv4))
	have := builder.Build(snap)
	want := builder.Build(withOther(snap, 77, 1))
	for b.Loop() {
		NewPlan(have, want, 200)
	}
}

func BenchmarkRender(b *testing.B) {
	plan := NewPlan(&Ruleset{}, Build(manyServices(benchServices), testConfig(IPv4)), 0)
	for b.Loop() {
		RenderPlan(plan)
	}
}

func BenchmarkParse(b *testing.B) {
	text := RenderPlan(NewPlan(&Ruleset{}, Build(manyServices(benchServices), testConfig(IPv4)), 0))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := ParseSave(text, IPv4); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLargeClustersHaveFewerComments(t *testing.T) {
	builder := NewBuilder(testConfig(IPv4))
	const large, veryLarge = largeCluster / 2, largeCluster * 5
	for _, n := range []int{large, large + 1, veryLarge, veryLarge + 1, large + 1, large} {
		text := string(RenderPlan(NewPlan(&Ruleset{}, builder.Build(manyServices(n)), 0)))
		if got, want := strings.Contains(text, " -> 10."), n*2 <= largeCluster; got != want {
			t.Errorf("%d endpoints: comments say which endpoint is meant: %v", 2*n, got)
		}
		if got, want := strings.Contains(text, "bench/service-00000:http cluster IP"), n <= veryLarge; got != want {
			t.Errorf("%d endpoints: comments say which Service is meant: %v", 2*n, got)
		}
	}
}

func TestOneChangeIsSmall(t *testing.T) {
	snap := manyServices(2000)
	builder := NewBuilder(testConfig(IPv4))
	have := builder.Build(snap)
	plan := NewPlan(have, builder.Build(withOther(snap, 77, 1)), 200)
	if len(plan.Transactions) != 1 || len(RenderPlan(plan)) > 2000 {
		t.Errorf("one endpoint changed of %d Services: %d transactions, %d bytes", 2000, len(plan.Transactions), len(RenderPlan(plan)))
	}
}

// BenchmarkTrace includes finding the chains in what iptables-save has printed.
func BenchmarkTrace(b *testing.B) {
	snap := manyServices(benchServices)
	text := string(RenderPlan(NewPlan(&Ruleset{}, Build(snap, testConfig(IPv4)), 0)))
	b.SetBytes(int64(len(text)))
	p := Packet{FromNode: true, Protocol: TCP, Src: netip.MustParseAddrPort("10.250.0.2:40000"), Dst: netip.AddrPortFrom(snap.Services[77].ClusterIPs[0], 80)}
	for b.Loop() {
		save, err := ReadSave(text, IPv4)
		if err != nil {
			b.Fatal(err)
		}
		if j, err := Trace([]Layer{{Save: save}}, Host{}, p); err != nil || len(j.Ends) != 2 {
			b.Fatalf("%+v, %v", j, err)
		}
	}
}
