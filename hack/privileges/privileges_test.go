// Package privileges runs svcproxy's containers with what the manifests give them
// and nothing else, by the runtime and with the system calls that a node would.
package privileges

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"svcproxy/pkg/kernel/kerneltest"
)

func TestPrivileges(t *testing.T) {
	kerneltest.NeedRoot(t)
	if _, err := exec.LookPath("runc"); err != nil {
		kerneltest.Refuse(t, "runc is not installed")
	}
	program := filepath.Join(t.TempDir(), "svcproxy")
	kerneltest.Run(t, "", "go", "build", "-o", program, "../../cmd/svcproxy")
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			n := &node{program: program, backend: backend, name: "svcproxy-test-privileges-" + backend}
			t.Run("as the manifests say", n.works)
			t.Run("without NET_ADMIN", func(t *testing.T) { n.fails(t, (*container).withoutNetAdmin) })
			t.Run("without NET_RAW", n.withoutNetRaw)
			t.Run("as another user", func(t *testing.T) { n.fails(t, func(c *container) { c.uid = 65534 }) })
		})
	}
}

func (c *container) withoutNetAdmin() { c.without("NET_ADMIN") }

// node is a network namespace in which the containers run.
type node struct {
	program, backend, name string
	objects                string // a folder
}

// The Services, and what svcproxy makes of them.
const (
	service = `
{apiVersion: v1, kind: Service, metadata: {namespace: ns, name: web}, spec: {type: LoadBalancer, externalTrafficPolicy: Local,
  healthCheckNodePort: 30099, clusterIPs: [10.96.0.10], ports: [{name: http, port: 80, nodePort: 30080}, {name: dns, protocol: UDP, port: 53}]},
  status: {loadBalancer: {ingress: [{ip: 203.0.113.9}]}}}
---
{apiVersion: v1, kind: Node, metadata: {name: here}, status: {addresses: [{type: InternalIP, address: 10.250.0.2}]}}
`
	slice = `
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: ns, name: web-1, labels: {kubernetes.io/service-name: web}},
  addressType: IPv4, ports: [{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}], endpoints: [{addresses: [%s], nodeName: here}]}
`
	// The node's own namespace has no say in how many connections are tracked.
	configuration = `
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clusterCIDR: 10.21.0.0/16
enableProfiling: true
conntrack: {maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 77m}
iptables: {syncPeriod: 1s, minSyncPeriod: 0s}
`
)

// make makes the node anew; it ends with the test.
func (n *node) make(t *testing.T) {
	t.Helper()
	remove := func() { _ = exec.Command("ip", "netns", "del", n.name).Run() }
	remove()
	kerneltest.Run(t, "", "ip", "netns", "add", n.name)
	t.Cleanup(remove)
	kerneltest.Run(t, "link set lo up\nlink add eth0 type bridge\naddr add 10.250.0.2/24 dev eth0\nlink set eth0 up\n", "ip", "-n", n.name, "-batch", "-")
	n.objects = t.TempDir()
	n.write(t, "service.yaml", service)
	n.endpoint(t, "10.21.1.2")
}

func (n *node) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(n.objects, name)
	check(t, os.WriteFile(path+".new", []byte(text), 0o644))
	check(t, os.Rename(path+".new", path))
}

func (n *node) endpoint(t *testing.T, addr string) {
	t.Helper()
	n.write(t, "slice.yaml", fmt.Sprintf(slice, addr))
}

func (n *node) run(t *testing.T, args ...string) string {
	t.Helper()
	return kerneltest.Run(t, "", "ip", append([]string{"netns", "exec", n.name}, args...)...)
}

// container makes one of the DaemonSet's. It reads objects from files, as there is no
// API server here.
func (n *node) container(t *testing.T, name string) *container {
	t.Helper()
	text, err := os.ReadFile("../../manifests/svcproxy/daemonset.yaml")
	check(t, err)
	var set appsv1.DaemonSet
	check(t, yaml.UnmarshalStrict(text, &set))
	pod := &set.Spec.Template.Spec
	if p := pod.SecurityContext.SeccompProfile; p == nil || p.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Fatalf("the pod's seccomp profile is %v, not that which is tried here", p)
	}
	all := slices.Concat(pod.InitContainers, pod.Containers)
	c := &container{Container: &all[slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == name })],
		pod: pod, node: n.name, root: newRoot(t, n.program), uid: *set.Spec.Template.Spec.Containers[0].SecurityContext.RunAsUser}
	c.profile = profile(t, c.capabilities())
	config, lock := t.TempDir(), filepath.Join(t.TempDir(), "xtables.lock")
	check(t, os.WriteFile(filepath.Join(config, "config.conf"), []byte(configuration), 0o644))
	check(t, os.WriteFile(lock, nil, 0o600))
	c.volumes = map[string]string{"config": config, "xtables-lock": lock, "sysctls": "/proc/sys/net", "objects": n.objects}
	for i := range c.Args {
		c.Args[i] = strings.ReplaceAll(c.Args[i], "$(NODE_NAME)", "here")
	}
	if name == "svcproxy" {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "objects", MountPath: "/objects", ReadOnly: true})
		c.Args = append(c.Args, "-f", "/objects", "--iptables-backend="+n.backend, "-v=2")
	}
	return c
}

// profile is what the runtime lets the container call; it depends on its capabilities.
func profile(t *testing.T, capabilities []string) json.RawMessage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"run", "."}, capabilities...)...)
	cmd.Dir = "seccomp"
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	check(t, err)
	return text
}

const patience = 30 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}

// works is all that svcproxy does on a node.
func (n *node) works(t *testing.T) {
	n.make(t)
	initial := n.container(t, "sysctls").start(t)
	if status := initial.end(); status != 0 {
		t.Fatalf("the init container ended with %d", status)
	}
	if got := strings.Fields(n.run(t, "sysctl", "-n", "net.netfilter.nf_conntrack_tcp_timeout_close_wait", "net.ipv4.conf.all.route_localnet")); !slices.Equal(got, []string{"4620", "1"}) {
		t.Errorf("after the init container the sysctls are %v", got)
	}
	r := n.container(t, "svcproxy").start(t)
	eventually(t, "the rules of the first sync", func() bool { return n.has(t, "10.21.1.2:8080") })
	n.confined(t, r)
	eventually(t, "/healthz says 200", func() bool { return n.get("10.250.0.2:10256/healthz") == http.StatusOK })
	for path, want := range map[string]int{
		"127.0.0.1:10256/livez": 200, "127.0.0.1:10249/proxyMode": 200, "127.0.0.1:10249/configz": 200, "127.0.0.1:10249/debug/pprof/": 200,
		"127.0.0.1:10249/metrics": 200, "10.250.0.2:30099/": 200,
	} {
		if got := n.get(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	want := []string{"tcp 127.0.0.1:10249", "tcp 0.0.0.0:30099", "tcp6 [::]:10256"} // the Service has no IPv6 address
	slices.Sort(want)
	if got := sockets(t, r.pid()); !slices.Equal(got, want) {
		t.Errorf("sockets %v, want %v", got, want)
	}
	n.changes(t)
	n.drifts(t)
	for line := range strings.Lines(r.said()) {
		l := strings.ToLower(line)
		if strings.Contains(l, "set oom_score_adj") {
			continue // kubelet's own setting counts: docs/security.md
		}
		if strings.Contains(l, "denied") || strings.Contains(l, "not permitted") || strings.Contains(l, "read-only") {
			t.Errorf("something may not be done: %s", line)
		}
	}
}

// has reports whether the node's rules hold a text.
func (n *node) has(t *testing.T, text string) bool {
	t.Helper()
	return strings.Contains(n.run(t, "iptables-"+n.backend+"-save"), text)
}

// get returns the status of an answer; 0: there is none.
func (n *node) get(url string) (status int) {
	out, _ := exec.Command("ip", "netns", "exec", n.name, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", "http://"+url).Output()
	_, _ = fmt.Sscan(string(out), &status)
	return status
}

// confined compares what the kernel says about the process with the manifest.
func (n *node) confined(t *testing.T, r *running) {
	t.Helper()
	const adminAndRaw = "0000000000003000" // bits 12 and 13
	for key, want := range map[string]string{
		"CapBnd": adminAndRaw, "CapPrm": adminAndRaw, "CapEff": adminAndRaw, "CapInh": "0000000000000000", "CapAmb": "0000000000000000",
		"NoNewPrivs": "1", "Seccomp": "2",
	} {
		if got := r.status(key); got != want {
			t.Errorf("%s of the process is %s, want %s", key, got, want)
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", r.pid()))
	check(t, err)
	var writable []string
	for line := range strings.Lines(string(mounts)) {
		// What is masked below /proc is /dev/null: to write it does nothing.
		if fields := strings.Fields(line); strings.HasPrefix(fields[3], "rw") && !strings.HasPrefix(fields[1], "/proc/") {
			writable = append(writable, fields[1])
		}
	}
	slices.Sort(writable)
	if want := []string{"/dev", "/proc", "/run/xtables.lock"}; !slices.Equal(slices.Compact(writable), want) {
		t.Errorf("mounted to be written: %v, want %v", writable, want)
	}
}

// changes: an endpoint goes, and with it a flow over UDP that it answered.
func (n *node) changes(t *testing.T) {
	t.Helper()
	n.run(t, "conntrack", "-I", "-p", "udp", "-s", "10.250.0.9", "-d", "10.96.0.10", "--sport", "1111", "--dport", "53",
		"--reply-src", "10.21.1.2", "--reply-dst", "10.250.0.9", "--reply-port-src", "5353", "--reply-port-dst", "1111", "-t", "600")
	n.endpoint(t, "10.21.1.3")
	eventually(t, "the new endpoint has the old one's place", func() bool { return n.has(t, "10.21.1.3:8080") && !n.has(t, "10.21.1.2:8080") })
	eventually(t, "the stale flow is gone", func() bool {
		return !strings.Contains(n.run(t, "conntrack", "-L", "-p", "udp"), "10.21.1.2")
	})
}

// drifts: somebody flushes a chain.
func (n *node) drifts(t *testing.T) {
	t.Helper()
	n.run(t, "iptables-"+n.backend, "-t", "nat", "-F", "KUBE-SERVICES")
	eventually(t, "the rules are back", func() bool { return n.has(t, "-A KUBE-SERVICES -d 10.96.0.10/32") })
}

// fails: svcproxy says why, and writes nothing.
func (n *node) fails(t *testing.T, spoil func(*container)) {
	n.make(t)
	c := n.container(t, "svcproxy")
	spoil(c)
	r := c.start(t)
	if status := r.end(); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	if !strings.Contains(strings.ToLower(r.said()), "permi") {
		t.Errorf("it does not say that it may not:\n%s", r.said())
	}
	if n.has(t, "KUBE-") {
		t.Error("it has written rules")
	}
	t.Logf("it says: %s", lastLine(r.said()))
}

// withoutNetRaw: the nft backend needs no raw socket, the legacy one does.
func (n *node) withoutNetRaw(t *testing.T) {
	spoil := func(c *container) { c.without("NET_RAW") }
	if n.backend == "legacy" {
		n.fails(t, spoil)
		return
	}
	n.make(t)
	c := n.container(t, "svcproxy")
	spoil(c)
	c.start(t)
	eventually(t, "the rules of the first sync", func() bool { return n.has(t, "10.21.1.2:8080") })
	n.changes(t)
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
