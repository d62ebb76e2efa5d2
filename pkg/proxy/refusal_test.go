package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// onLacking runs a test on a kernel of each kind that can be told to refuse.
func onLacking(t *testing.T, test func(t *testing.T, n *lackingNode)) {
	t.Helper()
	for backend, maxChains := range map[kernel.Backend]int{kernel.NFT: 60, kernel.Legacy: 0} {
		for _, f := range rules.Families() {
			t.Run(string(backend)+"/"+f.String(), func(t *testing.T) {
				kerneltest.Enter(t)
				l := kerneltest.NewLacking(t)
				host := kernel.NewHost(backend)
				t.Cleanup(host.Close)
				tables, err := host.Tables(f)
				if err != nil {
					t.Fatal(err)
				}
				src := &snapshots{mu: &sync.Mutex{}, snap: manyKinds(f), changed: make(chan struct{}, 1)}
				n := &lackingNode{t: t, lacking: l, tables: tables, maxChains: maxChains, src: src, backend: backend}
				n.start()
				test(t, n)
			})
		}
	}
}

// lackingNode is a node whose kernel can be told to refuse, and the proxy on it.
type lackingNode struct {
	t         *testing.T
	lacking   *kerneltest.Lacking
	tables    *kernel.Tables
	backend   kernel.Backend
	maxChains int
	src       *snapshots
	proxy     *Proxy
	family    *familySync
}

// start starts the proxy anew.
func (n *lackingNode) start() {
	f := rules.IPv4
	if n.src.snap.Services[0].ClusterIPs[0].Is6() {
		f = rules.IPv6
	}
	cfg := rules.Config{
		Family: f, MasqueradeMark: 0x4000, DropInvalid: true,
		NodePorts: rules.NodePortAddresses{Ranges: []netip.Prefix{f.All()}, Localhost: true},
	}
	families := []Family{{Config: cfg, Kernel: n.tables, MaxChains: n.maxChains, Missing: n.tables.Missing}}
	n.proxy = New(n.src, families, Options{})
	n.family = n.proxy.families[0]
}

// sync syncs and returns how many restores that took, and how many were refused.
func (n *lackingNode) sync() (restores, refused int) {
	n.t.Helper()
	n.lacking.Calls()
	if err := n.proxy.Sync(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	return n.lacking.Calls()
}

// has checks that the kernel has exactly the rules for the given Services, and that
// a packet to each meets the fate it should.
func (n *lackingNode) has(missing rules.Features, svcs []*rules.Service) {
	n.t.Helper()
	snap := *n.src.snap
	snap.Services = svcs
	cfg := n.family.config
	cfg.Missing = missing
	have, err := n.tables.Read(n.t.Context(), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if left := rules.NewPlan(have, rules.Build(&snap, cfg), 0); !left.Empty() {
		n.t.Errorf("missing %+v: this differs:\n%s", missing.Infos(), rules.RenderPlan(left))
	}
	text := rules.RenderPlan(rules.NewPlan(&rules.Ruleset{Family: cfg.Family}, have, 0))
	tables, err := rules.ParseSave(text, cfg.Family)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, svc := range svcs {
		n.walk(tables, svc, missing)
	}
}

func (n *lackingNode) walk(tables []rules.Table, svc *rules.Service, missing rules.Features) {
	n.t.Helper()
	port := &svc.Ports[0]
	src := netip.MustParseAddrPort("192.0.2.1:4000")
	if svc.ClusterIPs[0].Is6() {
		src = netip.MustParseAddrPort("[2001:db8::1]:4000")
	}
	dst := netip.AddrPortFrom(svc.ClusterIPs[0], port.Port)
	fates, err := rules.Walk(tables, rules.Host{}, rules.Packet{In: "eth0", Protocol: port.Protocol, Src: src, Dst: dst})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, fate := range fates {
		switch to := func(e rules.Endpoint) bool { return e.Addr == fate.Dst }; {
		case len(port.Endpoints) > 0 && port.Protocol == rules.SCTP && missing.Has(rules.FeatureSCTP):
		case len(port.Endpoints) == 0 && fate.Verdict == "ACCEPT",
			len(port.Endpoints) > 0 && !slices.ContainsFunc(port.Endpoints, to):
			n.t.Errorf("missing %+v: a packet to %s meets %+v", missing.Infos(), svc.Name, fate)
		}
	}
}

// manyKinds is a snapshot of Services of all kinds.
func manyKinds(f rules.Family) *rules.Snapshot {
	addr := func(net, i int) netip.Addr {
		if f == rules.IPv6 {
			return netip.MustParseAddr(fmt.Sprintf("fd00:%x::%x", net, i+1))
		}
		return netip.AddrFrom4([4]byte{10, byte(net), 0, byte(i + 1)})
	}
	snap := &rules.Snapshot{Node: rules.Node{Name: "here", Addresses: []netip.Addr{addr(250, 0)}}}
	snap.ServiceCIDRs = []netip.Prefix{netip.PrefixFrom(addr(96, 0), addr(96, 0).BitLen()-8).Masked()}
	for i := range 100 {
		svc := &rules.Service{Namespace: "ns", Name: fmt.Sprintf("svc-%05d", i), ClusterIPs: []netip.Addr{addr(96, i)}}
		port := rules.ServicePort{Protocol: rules.TCP, Port: 80}
		for e := range 2 {
			port.Endpoints = append(port.Endpoints, rules.Endpoint{Addr: netip.AddrPortFrom(addr(20+e, i), 8080), NodeName: "other", Ready: true, Serving: true})
		}
		switch i % 10 {
		case 1:
			svc.AffinitySeconds = 600
		case 2:
			port.NodePort, svc.ExternalTrafficLocal = uint16(30000+i), true
			port.Endpoints[0].NodeName = "here"
		case 3:
			port.NodePort, svc.ExternalTrafficLocal = uint16(30000+i), true
		case 4:
			svc.LoadBalancerIPs, svc.RestrictSources = []netip.Addr{addr(198, i)}, true
			svc.SourceRanges = []netip.Prefix{netip.PrefixFrom(addr(192, 0), 24).Masked()}
		case 5:
			port.Endpoints = nil
		case 6:
			port.Protocol = rules.SCTP
		}
		svc.Ports = []rules.ServicePort{port}
		snap.Services = append(snap.Services, svc)
	}
	return snap
}

// The kernel refuses two Services: all others are served, within as many restores
// as a search takes; a change of another one takes one; and once the kernel takes
// them they are served.
func TestRefusedServicesAreLeftOutAndComeBack(t *testing.T) {
	onLacking(t, func(t *testing.T, n *lackingNode) {
		svcs := n.src.snap.Services
		bad := []int{11, 77}
		want := slices.Clone(svcs)
		pattern := ""
		for _, i := range bad {
			pattern += "|-j DNAT --to-destination " + escape(svcs[i].Ports[0].Endpoints[1].Addr.String())
			want[i] = rules.WithoutEndpoints(svcs[i])
		}
		n.lacking.Refuse(pattern[1:])
		restores, refused := n.sync()
		t.Logf("first sync: %d restores, of which %d were refused", restores, refused)
		if most := map[kernel.Backend]int{kernel.NFT: 5, kernel.Legacy: 22}[n.backend]; refused > most {
			t.Errorf("%d restores were refused, want at most %d", refused, most)
		}
		n.has(0, want)
		if got := names(n.proxy.Quarantined()); !slices.Equal(got, []string{svcs[11].Name, svcs[77].Name}) {
			t.Errorf("in quarantine: %v", got)
		}

		hold := func(m *inmate) { m.tried = time.Now().Add(time.Hour) }
		for _, m := range n.family.quarantine.inmates {
			hold(m)
		}
		changed := *svcs[20]
		changed.Ports = []rules.ServicePort{changed.Ports[0]}
		changed.Ports[0].Endpoints = changed.Ports[0].Endpoints[:1]
		svcs, want = slices.Clone(svcs), slices.Clone(want)
		svcs[20], want[20] = &changed, &changed
		snap := *n.src.snap
		snap.Services = svcs
		n.src.snap = &snap
		if restores, refused := n.sync(); restores != 1 || refused != 0 {
			t.Errorf("a change of another Service: %d restores, %d refused; want one, none", restores, refused)
		}
		n.has(0, want)

		due := func() {
			for _, m := range n.family.quarantine.inmates {
				m.tried = time.Time{}
			}
		}
		due()
		if _, refused := n.sync(); refused != 1 {
			t.Errorf("tried again: %d restores were refused, want one", refused)
		}
		n.has(0, want)
		n.lacking.Refuse("")
		due()
		if _, refused := n.sync(); refused != 0 || len(n.proxy.Quarantined()) > 0 {
			t.Errorf("the kernel takes all: %d refused, in quarantine: %v", refused, names(n.proxy.Quarantined()))
		}
		n.has(0, svcs)
	})
}

func escape(s string) string {
	out := ""
	for _, r := range s {
		if r == '.' || r == '[' || r == ']' {
			out += `\`
		}
		out += string(r)
	}
	return out
}

// A kernel without a feature serves all that does not need it, from the first sync
// on, and uses the feature once it is there; a node that is right is not asked.
func TestFeaturesThatTheKernelLacks(t *testing.T) {
	onLacking(t, func(t *testing.T, n *lackingNode) {
		for feature, pattern := range kerneltest.Features() {
			if feature != rules.FeatureDNAT { // nothing is served without
				t.Run(feature.Infos()[0].Name, func(t *testing.T) {
					kerneltest.Enter(t)
					n.t = t
					n.lacks(feature, pattern)
				})
			}
		}
	})
}

func (n *lackingNode) lacks(feature rules.Features, pattern string) {
	n.start()
	n.lacking.Refuse(pattern)
	restores, refused := n.sync()
	n.t.Logf("%d restores, of which %d were refused", restores, refused)
	if n.family.config.Missing != feature || len(n.proxy.Quarantined()) > 0 {
		n.t.Errorf("missing %+v, in quarantine %v", n.family.config.Missing.Infos(), names(n.proxy.Quarantined()))
	}
	n.has(feature, n.src.snap.Services)
	if problems := n.family.unserved(n.src.snap); (len(problems) > 0) != (feature == rules.FeatureSCTP) {
		n.t.Errorf("problems: %v", problems)
	}

	n.lacking.Refuse("")
	n.family.features.tried = time.Time{}
	n.sync()
	n.has(0, n.src.snap.Services)
	n.start()
	if restores, _ := n.sync(); restores != 0 {
		n.t.Errorf("a start on a node that is right: %d restores", restores)
	}
}

// What is refused has nothing to do with a Service: an error, and nobody pays for it.
func TestARefusedScaffoldIsAnError(t *testing.T) {
	onLacking(t, func(t *testing.T, n *lackingNode) {
		n.lacking.Refuse("KUBE-MARK-MASQ -j MARK --set-xmark 0x4000")
		n.lacking.Calls()
		err := n.proxy.Sync(t.Context())
		if _, refused := n.lacking.Calls(); err == nil || refused > 3 || len(n.proxy.Quarantined()) > 0 {
			t.Errorf("%d restores were refused, in quarantine %v: %v", refused, names(n.proxy.Quarantined()), err)
		}
		n.lacking.Refuse("")
		n.sync()
		n.has(0, n.src.snap.Services)
	})
}
