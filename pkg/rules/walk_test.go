package rules

import (
	"math"
	"net/netip"
	"testing"
)

func toService(f Family, vip int, p Protocol, port uint16) Packet {
	return Packet{
		FromNode: true, Protocol: p,
		Src: netip.AddrPortFrom(outsideAddr(f), 40000),
		Dst: netip.AddrPortFrom(vipAddr(f, vip), port),
	}
}

func TestEndpointsShareEqually(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		for _, n := range []int{1, 2, 3, 7, 16, 17, 100} {
			var eps []int
			for i := range n {
				eps = append(eps, i)
			}
			tables := loaded(t, Build(snapshot(clusterService(f, "web", 1, eps...)), testConfig(f)))
			fates := walk(t, tables, toService(f, 1, TCP, 80))
			if len(fates) != n {
				t.Fatalf("%d endpoints: %d fates", n, len(fates))
			}
			for _, fate := range fates {
				if math.Abs(fate.Probability-1/float64(n)) > 1e-6 || fate.Verdict != Accept {
					t.Errorf("%d endpoints: %+v, want probability %g", n, fate, 1/float64(n))
				}
			}
		}
	})
}

func TestSourceIsRewrittenForOutsidersAndHairpins(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		svc := clusterService(f, "web", 1, 1)
		endpoint := svc.Ports[0].Endpoints[0].Addr.Addr()
		for _, c := range []struct {
			name string
			src  netip.Addr
			all  bool
			want bool
		}{
			{"outside", outsideAddr(f), false, true},
			{"another pod", podAddr(f, 9), false, false},
			{"the endpoint itself", endpoint, false, true},
			{"another pod, masquerade all", podAddr(f, 9), true, true},
		} {
			cfg := testConfig(f)
			cfg.MasqueradeAll = c.all
			p := toService(f, 1, TCP, 80)
			p.FromNode, p.In = false, "cni0"
			p.Src = netip.AddrPortFrom(c.src, 40000)
			fates := walk(t, loaded(t, Build(snapshot(svc), cfg)), p)
			if len(fates) != 1 || fates[0].Masqueraded != c.want {
				t.Errorf("%s: %+v, want masqueraded %v", c.name, fates, c.want)
			}
		}
	})
}

func TestNoEndpointsRejectsAndNeighboursAreLeftAlone(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		tables := loaded(t, Build(snapshot(clusterService(f, "empty", 1), clusterService(f, "web", 2, 1)), testConfig(f)))
		for _, c := range []struct {
			name      string
			packet    Packet
			verdict   string
			rewritten bool
		}{
			{"no endpoints", toService(f, 1, TCP, 80), Reject, false},
			{"its other port", toService(f, 1, TCP, 81), Accept, false},
			{"served", toService(f, 2, TCP, 80), Accept, true},
			{"other protocol", toService(f, 2, UDP, 80), Accept, false},
			{"next address", toService(f, 3, TCP, 80), Accept, false},
		} {
			fates := walk(t, tables, c.packet)
			if len(fates) != 1 || fates[0].Verdict != c.verdict || (fates[0].Dst != c.packet.Dst) != c.rewritten {
				t.Errorf("%s: %+v, want %s, rewritten %v", c.name, fates, c.verdict, c.rewritten)
			}
		}
	})
}

func TestAffinitySendsAKnownClientBack(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		svc := clusterService(f, "web", 1, 1, 2, 3)
		svc.AffinitySeconds = 600
		tables := loaded(t, Build(snapshot(svc), testConfig(f)))
		p := toService(f, 1, TCP, 80)
		second := svc.Ports[0].Endpoints[1].Addr
		p.Seen = []string{endpointChain("ns/web", TCP, second)}
		if fates := walk(t, tables, p); len(fates) != 1 || fates[0].Dst != second {
			t.Errorf("known client: %+v, want %s only", fates, second)
		}
	})
}

func TestWalkRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, text := range map[string]string{
		"match":  "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -m geoip --src-cc XX -j DROP\nCOMMIT\n",
		"target": "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j NFQUEUE\nCOMMIT\n",
		"loop":   "*nat\n:OUTPUT ACCEPT [0:0]\n:A - [0:0]\n-A OUTPUT -j A\n-A A -j A\nCOMMIT\n",
	} {
		tables, err := ParseSave([]byte(text), IPv4)
		if err != nil {
			t.Fatal(err)
		}
		if fates, err := Walk(tables, Host{}, toService(IPv4, 1, TCP, 80)); err == nil {
			t.Errorf("unknown %s: got %+v, want an error", name, fates)
		}
	}
}
