package api

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"svcproxy/hack/internal/controlplane"
	"svcproxy/hack/internal/echo"
	"svcproxy/hack/internal/process"
	"svcproxy/hack/internal/proxies"
	"svcproxy/hack/internal/surroundings"
	"svcproxy/pkg/kernel/kerneltest"
)

// rounds is how often kube-proxy and svcproxy take each other's place.
const rounds = 3

// TestTakeover swaps the real kube-proxy and svcproxy on a node, while
// connections are open and others opened: none may fail.
func TestTakeover(t *testing.T) {
	bin := os.Getenv(binVariable)
	if bin == "" {
		t.Skip("needs Kubernetes' binaries: run make test-api")
	}
	svcproxy := filepath.Join(t.TempDir(), "svcproxy")
	kerneltest.Run(t, "", "go", "build", "-o", svcproxy, "../../cmd/svcproxy")
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "xtables.lock"))
			c := newControlPlane(t, bin)
			o := &objects{t, c.admin()}
			o.grant(func(*rbacv1.ClusterRole) {})
			s := &swap{
				t: t, life: t, around: newAround(t, "svcproxy-takeover-"+backend+"-"), controlPlane: c, objects: o,
				svcproxy: svcproxy, backend: backend, tools: toolsOf(t, backend), logs: t.TempDir(),
			}
			s.servePods()
			s.makeObjects()
			s.play()
		})
	}
}

// swap is a node on which proxies take each other's place.
type swap struct {
	t    *testing.T // the part that is played
	life *testing.T // ends after all parts
	*around
	*controlPlane
	*objects
	svcproxy, backend string
	logs              string // a folder for what processes say
	tools             string // a folder with iptables and its like, of the backend
	nodePort          netip.AddrPort
	many              int // Services made so far
	first             int // of the pods behind web: 1 or 3
	started           int // processes
}

// toolsOf makes a folder in which iptables is the command of a backend, whatever
// it is on this machine: kube-proxy runs what it finds by that name.
func toolsOf(t *testing.T, backend string) string {
	t.Helper()
	dir := t.TempDir()
	if err := proxies.LinkTools(dir, backend); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The addresses that clients use.
const (
	webIP      = "10.96.0.50"
	stickyIP   = "10.96.0.51"
	nobodyIP   = "10.96.0.52"
	balancerIP = "203.0.113.50"
)

// manyServices are enough for both proxies' lists to be long, and for svcproxy's
// to be divided.
const manyPorts = 24

func (s *swap) makeObjects() {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}
	n, err := s.objects.client.CoreV1().Nodes().Create(context.Background(), n, metav1.CreateOptions{})
	s.objects.check(err)
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: surroundings.NodeAddress.String()}}
	_, err = s.objects.client.CoreV1().Nodes().UpdateStatus(context.Background(), n, metav1.UpdateOptions{})
	s.objects.check(err)
	s.objects.service("web", func(spec *corev1.ServiceSpec) { spec.ClusterIP = webIP })
	s.objects.service("sticky", func(spec *corev1.ServiceSpec) {
		spec.ClusterIP, spec.SessionAffinity = stickyIP, corev1.ServiceAffinityClientIP
	})
	s.objects.service("nobody", func(spec *corev1.ServiceSpec) { spec.ClusterIP = nobodyIP })
	s.first = 1
	s.endpoints("web", 1, 20)
	s.endpoints("sticky", 1, 18)
	b := s.objects.service("balancer", func(spec *corev1.ServiceSpec) {
		spec.Type, spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24", "10.21.0.0/16"}
	})
	b.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: balancerIP}}
	b, err = s.objects.client.CoreV1().Services(namespace).UpdateStatus(context.Background(), b, metav1.UpdateOptions{})
	s.objects.check(err)
	s.nodePort = netip.AddrPortFrom(surroundings.NodeAddress, uint16(b.Spec.Ports[0].NodePort))
	s.endpoints("balancer", 5, 8)
	for range manyPorts {
		s.oneMore()
	}
}

func manyName(i int) string { return fmt.Sprintf("many-%d", i) }

// oneMore makes a Service like many others.
func (s *swap) oneMore() {
	name := manyName(s.many)
	s.objects.service(name, func(spec *corev1.ServiceSpec) { spec.Type = corev1.ServiceTypeNodePort })
	s.endpoints(name, 1+s.many%8, 3+s.many%8)
	s.many++
}

// endpoints gives a Service the pods from first to last, all on the node, and no others.
func (s *swap) endpoints(service string, first, last int) {
	s.t.Helper()
	p, port, node := "p", int32(echo.Port), nodeName
	e := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &p, Port: &port}},
	}
	for i := first; i <= last; i++ {
		e.Endpoints = append(e.Endpoints, discoveryv1.Endpoint{Addresses: []string{surroundings.Pod(i).String()}, NodeName: &node})
	}
	api := s.objects.client.DiscoveryV1().EndpointSlices(namespace)
	_, err := api.Create(context.Background(), e, metav1.CreateOptions{})
	if err != nil {
		_, err = api.Update(context.Background(), e, metav1.UpdateOptions{})
	}
	s.objects.check(err)
}

// routes lists what clients connect to.
func (s *swap) routes() []route {
	at := func(ip string) netip.AddrPort { return netip.AddrPortFrom(addr(ip), 80) }
	return []route{
		{surroundings.Client, []netip.AddrPort{at(webIP), at(stickyIP), at(balancerIP)}},
		{surroundings.Node, []netip.AddrPort{at(webIP), at(stickyIP), s.nodePort}},
		{surroundings.Outside, []netip.AddrPort{at(balancerIP), s.nodePort}},
	}
}

// play is the story: what each part begins with, the one before has left.
func (s *swap) play() {
	first := s.startKubeProxy("iptables")
	s.serves("the first kube-proxy")
	for _, part := range []struct {
		name string
		play func()
	}{
		{"to svcproxy and back", func() { first = s.toAndFro(first) }},
		{"refused while kube-proxy runs", func() { s.refused(first) }},
		{"kube-proxy again after --cleanup", func() { first = s.cleanup(first) }},
		{"from nftables mode", func() { s.fromNFTablesMode(first) }},
	} {
		passed := s.life.Run(part.name, func(t *testing.T) {
			s.setT(t)
			part.play()
		})
		s.setT(s.life)
		if !passed {
			return
		}
	}
}

// setT makes what fails now be the fault of a part of the test.
func (s *swap) setT(t *testing.T) { s.t, s.objects.t, s.around.t = t, t, t }

// toAndFro has the proxies take each other's place under load. Every second time
// svcproxy is there before kube-proxy has ended, and waits.
func (s *swap) toAndFro(p *process.Process) *process.Process {
	load := startTraffic(s.around, s.routes())
	for r := range rounds {
		load.during("round %d: kube-proxy to svcproxy", r)
		p = s.replace(p, r%2 == 1, s.startSvcproxy)
		s.serves("svcproxy")
		load.during("round %d: svcproxy at work", r)
		s.change()
		s.serves("svcproxy after a change")
		load.during("round %d: svcproxy to kube-proxy", r)
		p = s.replace(p, false, func() *process.Process { return s.startKubeProxy("iptables") })
		s.serves("kube-proxy")
		load.during("round %d: kube-proxy at work", r)
		s.change()
		s.serves("kube-proxy after a change")
		s.succeeded(p)
	}
	load.end(s.t)
	s.jumpsOnce()
	return p
}

// jumpsOnce: each found the other's jumps in place.
func (s *swap) jumpsOnce() {
	seen := map[string]bool{}
	for line := range strings.Lines(s.savedTable("filter") + s.saved()) {
		if builtin := strings.HasPrefix(line, "-A ") && !strings.HasPrefix(line, "-A KUBE-"); builtin && seen[line] {
			s.t.Errorf("stands twice: %s", line)
		}
		seen[line] = true
	}
}

// replace stops a proxy and starts another, with a change in between, which is for
// the other to see.
func (s *swap) replace(old *process.Process, early bool, start func() *process.Process) *process.Process {
	var next *process.Process
	if early {
		next = start()
		eventually(s.t, patience, "svcproxy waits", func() bool { return strings.Contains(next.Said(), "Waiting for another service proxy") })
	}
	old.Stop(syscall.SIGTERM)
	s.change()
	if next == nil {
		next = start()
	}
	return next
}

// succeeded fails the test if kube-proxy could not write its rules: it says so in
// its log alone.
func (s *swap) succeeded(p *process.Process) {
	s.t.Helper()
	if said := p.Said(); strings.Contains(said, "Sync failed") {
		s.t.Errorf("kube-proxy, after svcproxy, cannot write its rules:\n%s", lines(said, "ailed"))
	}
}

// refused starts svcproxy beside a kube-proxy that stays.
func (s *swap) refused(kubeProxy *process.Process) {
	load := startTraffic(s.around, s.routes())
	before := lines(s.saved(), "-A ")
	p := s.startSvcproxy()
	if status := exit(p, 90*time.Second); status != 1 {
		s.t.Errorf("exit status %d, want 1", status)
	}
	for _, word := range []string{"127.0.0.1:10249 answers as a service proxy in mode iptables", "127.0.0.1:10256 answers", "docs/migrate.md"} {
		if !strings.Contains(p.Tail(1), word) {
			s.t.Errorf("%q is not in its last line:\n%s", word, p.Tail(1))
		}
	}
	if after := lines(s.saved(), "-A "); after != before {
		s.t.Errorf("the rules changed from\n%s\nto\n%s", before, after)
	}
	load.end(s.t)
	s.succeeded(kubeProxy)
}

// cleanup takes the rules away between the two, by either's --cleanup. Without rules
// no new connection can be made, but kube-proxy finds nothing in its way.
func (s *swap) cleanup(p *process.Process) *process.Process {
	for _, cleaner := range []string{s.svcproxy, s.Program("kube-proxy")} {
		who := "kube-proxy after " + filepath.Base(cleaner) + " --cleanup"
		p = s.replace(p, false, s.startSvcproxy)
		s.serves("svcproxy")
		p.Stop(syscall.SIGTERM)
		s.run(surroundings.Node, "env", s.path(), cleaner, "--cleanup")
		if left := lines(s.saved(), "KUBE-"); left != "" {
			s.t.Errorf("%s has left:\n%s", cleaner, left)
		}
		s.change()
		p = s.startKubeProxy("iptables")
		s.serves(who)
		s.change()
		s.serves(who + " and a change")
		s.succeeded(p)
	}
	return p
}

// fromNFTablesMode has svcproxy follow a kube-proxy in its nftables mode.
func (s *swap) fromNFTablesMode(p *process.Process) {
	p.Stop(syscall.SIGTERM)
	s.run(surroundings.Node, s.svcproxy, "--cleanup")
	p = s.startKubeProxy("nftables")
	eventually(s.t, 60*time.Second, "web answers in nftables mode", func() bool { return s.answers(webIP) })
	// Nobody served for a while: what was tried meanwhile is not rewritten, nor is a
	// new connection that happens to come from the same port.
	s.run(surroundings.Node, "conntrack", "-F")
	load := startTraffic(s.around, s.routes())
	p = s.replace(p, false, s.startSvcproxy)
	s.serves("svcproxy after nftables mode")
	s.change()
	s.serves("svcproxy after nftables mode and a change")
	load.end(s.t)
	eventually(s.t, 10*time.Second, "kube-proxy's tables are gone", func() bool {
		return !strings.Contains(s.run(surroundings.Node, "nft", "list", "tables"), "kube-proxy")
	})
	p.Stop(syscall.SIGTERM)
}

// change moves endpoints, and has a Service come and another go.
func (s *swap) change() {
	s.oneMore()
	s.objects.removeService(manyName(s.many - manyPorts - 1))
	s.first = 4 - s.first
	s.endpoints("web", s.first, s.first+19)
}

// answers reports whether a Service does.
func (s *swap) answers(ip string) bool {
	got := s.reached(surroundings.Client, netip.AddrPortFrom(addr(ip), 80), 1)
	return len(got) == 1 && strings.HasPrefix(got[0], "10.")
}

// serves waits until a proxy serves what there is now.
func (s *swap) serves(who string) {
	s.t.Helper()
	want := make([]string, 20)
	for i := range want {
		want[i] = surroundings.Pod(s.first + i).String()
	}
	var got []string
	end := time.Now().Add(60 * time.Second)
	for {
		got = s.reached(surroundings.Client, netip.AddrPortFrom(addr(webIP), 80), 300)
		if slices.Equal(got, want) && s.listed() {
			break
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s: web leads to %v, want %v; Services listed: %v", who, got, want, s.listed())
		}
		time.Sleep(50 * time.Millisecond)
	}
	refused := s.reached(surroundings.Client, netip.AddrPortFrom(addr(nobodyIP), 80), 1)
	if len(refused) != 1 || !strings.Contains(refused[0], "refused") {
		s.t.Errorf("%s: a Service without endpoints: %v", who, refused)
	}
}

// listed reports whether the rules name exactly the Services that there are.
func (s *swap) listed() bool {
	rules := s.saved()
	for i := range s.many {
		if there := i >= s.many-manyPorts; strings.Contains(rules, manyName(i)+":p cluster IP") != there {
			return false
		}
	}
	return true
}

// saved is the node's nat table as iptables-save prints it.
func (s *swap) saved() string { return s.savedTable("nat") }

func (s *swap) savedTable(name string) string {
	return s.run(surroundings.Node, "iptables-"+s.backend+"-save", "-t", name)
}

// start runs a program on the node.
func (s *swap) start(name string, args ...string) *process.Process {
	s.t.Helper()
	s.started++
	p, err := process.Start(filepath.Join(s.logs, fmt.Sprintf("%s-%d.log", name, s.started)), nil, "ip",
		append([]string{"netns", "exec", string(s.Netns(surroundings.Node)), "env", s.path()}, args...)...)
	s.objects.check(err)
	s.life.Cleanup(func() { end(s.life, p) })
	return p
}

// path has programs find the backend's iptables.
func (s *swap) path() string { return "PATH=" + s.tools + ":" + os.Getenv("PATH") }

func (s *swap) flags(u controlplane.User) []string {
	s.t.Helper()
	kubeconfig, err := s.KubeconfigAt(surroundings.APIAddress, u)
	s.objects.check(err)
	return []string{
		"--kubeconfig", kubeconfig, "--hostname-override", nodeName,
		"--cluster-cidr", "10.21.0.0/16", "--conntrack-max-per-core=0", "--conntrack-min=0", "-v=2",
	}
}

func (s *swap) startKubeProxy(mode string) *process.Process {
	s.t.Helper()
	return s.start("kube-proxy", append([]string{s.Program("kube-proxy"), "--proxy-mode", mode}, s.flags(controlplane.Admin())...)...)
}

func (s *swap) startSvcproxy() *process.Process {
	s.t.Helper()
	return s.start("svcproxy", append([]string{s.svcproxy, "--iptables-backend=" + s.backend}, s.flags(svcproxyUser())...)...)
}

// lines returns those lines of a text that hold one of some words.
func lines(text string, words ...string) string {
	var out []string
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
