package packets

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"svcproxy/pkg/kernel/kerneltest"
)

const udpService = `{apiVersion: v1, kind: Service, metadata: {namespace: ns, name: echo}, spec: {type: NodePort,
  clusterIPs: [10.96.0.10, "fd00:10:96::10"], ports: [{protocol: UDP, port: 53, nodePort: 30053}]}}
`

// udpSlice is an EndpointSlice of echo; no address: it has no endpoints.
func udpSlice(family, addr string, port uint16) string {
	eps := ""
	if addr != "" {
		eps = fmt.Sprintf("{addresses: [%q]}", addr)
	}
	return fmt.Sprintf(`---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: ns, name: echo-%s, labels: {kubernetes.io/service-name: echo}},
  addressType: %s, ports: [{protocol: UDP, port: %d}], endpoints: [%s]}
`, strings.ToLower(family), family, port, eps)
}

// echo is the objects with the given host as the only endpoint.
func (n *network) echo(host string, port uint16) string {
	v4, v6 := "", ""
	if host != "" {
		v4, v6 = n.hosts[host].addrs[0].String(), n.hosts[host].addrs[1].String()
	}
	return udpService + udpSlice("IPv4", v4, port) + udpSlice("IPv6", v6, port)
}

// A client over UDP that keeps its source port and never stops sending follows
// every change: the kernel would send its packets to the first endpoint for ever.
func TestUDPFlowsFollowChanges(t *testing.T) {
	kerneltest.NeedRoot(t)
	bin := filepath.Join(t.TempDir(), "svcproxy")
	kerneltest.Run(t, "", "go", "build", "-o", bin, "../../cmd/svcproxy")
	n := newNetwork(t, "svcproxy-packets-udp-")
	n.serve("local", serverPort)
	n.serve("remote", serverPort)
	n.serve("remote", serverPort+1)
	dir := t.TempDir()
	set := func(objects string) {
		t.Helper()
		write(t, dir, objects)
	}
	set(n.echo("local", serverPort))
	_, stop := n.follow(bin, dir)
	var clients []*udpClient
	for _, c := range []struct{ host, to string }{
		{"client", "10.96.0.10:53"}, {"client", "[fd00:10:96::10]:53"}, {"node", "10.96.0.10:53"}, {"node", "[fd00:10:96::10]:53"},
		{"outside", "10.250.0.2:30053"}, {"outside", "[fd00:250::2]:30053"},
	} {
		clients = append(clients, n.dialUDP(c.host, netip.MustParseAddrPort(c.to)))
	}
	answered := func(what, host string, port uint16) {
		t.Helper()
		start := time.Now()
		for _, c := range clients {
			c.answered(t, what, n.hosts[host], port)
		}
		t.Logf("%s: %v", what, time.Since(start))
	}
	answered("the start", "local", serverPort)
	set(n.echo("remote", serverPort))
	answered("another endpoint", "remote", serverPort)
	set(n.echo("remote", serverPort+1))
	answered("another target port", "remote", serverPort+1)

	before := n.flowIDs(t)
	stop()
	said, stop := n.follow(bin, dir)
	said.wait(t, `"Removed stale flows" family="IPv4"`, `"Removed stale flows" family="IPv6"`)
	answered("a restart", "remote", serverPort+1)
	if after := n.flowIDs(t); after != before {
		t.Errorf("a restart changed flows that were in order:\n%s\nbefore:\n%s", after, before)
	}
	set(n.echo("", serverPort))
	for _, c := range clients {
		c.silent(t, "no endpoints")
	}
	set(n.echo("local", serverPort))
	answered("an endpoint again", "local", serverPort)
	set("# nothing is left\n") // an empty file would be one that is about to be written
	for _, c := range clients {
		c.silent(t, "the Service is deleted")
	}
	stop()
}

// follow runs svcproxy on the node.
func (n *network) follow(bin, dir string, flags ...string) (said *output, stop func()) {
	args := []string{"netns", "exec", n.namespace("node"), bin, "-f", dir, "-v", "2",
		"--hostname-override", "node", "--cluster-cidr", "10.21.0.0/16,fd00:10:21::/48", "--iptables-backend", "nft",
		"--iptables-min-sync-period", "0"}
	cmd := exec.Command("ip", append(args, flags...)...)
	cmd.Env = append(cmd.Environ(), "XTABLES_LOCKFILE="+filepath.Join(n.t.TempDir(), "xtables.lock"))
	said = &output{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			n.t.Errorf("svcproxy: %v\n%s", err, said.text())
		}
	})
	n.t.Cleanup(stop)
	return said, stop
}

// output is what a command says while it runs.
type output struct {
	mu  sync.Mutex
	all strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Write(b)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

// wait waits until each of the words was said.
func (o *output) wait(t *testing.T, words ...string) {
	t.Helper()
	missing := func(word string) bool { return !strings.Contains(o.text(), word) }
	for end := time.Now().Add(patience); slices.ContainsFunc(words, missing); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not said: %v\n%s", words, o.text())
		}
	}
}

// flowIDs lists what the node's conntrack has of flows to the Service that are
// answered, by the kernel's ID of each.
func (n *network) flowIDs(t *testing.T) string {
	t.Helper()
	var out []string
	for _, family := range []string{"ipv4", "ipv6"} {
		text := kerneltest.Run(t, "", "ip", "netns", "exec", n.namespace("node"), "conntrack", "-L", "-f", family, "-p", "udp", "-o", "id")
		for _, line := range regexp.MustCompile(`(?m)^udp .*dport=(?:53|30053) .*$`).FindAllString(text, -1) {
			out = append(out, regexp.MustCompile(`src=\S+|\bid=\d+`).FindAllString(line, -1)...)
		}
	}
	if len(out) == 0 {
		t.Error("no flows are seen")
	}
	return strings.Join(out, " ")
}

// udpClient sends from one port for as long as it is asked.
type udpClient struct {
	host string
	conn *net.UDPConn
	to   netip.AddrPort
}

func (n *network) dialUDP(host string, to netip.AddrPort) *udpClient {
	c := &udpClient{host: host, to: to}
	n.inside(host, func() {
		var err error
		if c.conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); err != nil {
			n.t.Errorf("%s to %s: %v", host, to, err)
		}
	})
	if c.conn == nil {
		n.t.FailNow()
	}
	n.t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// ask sends one packet and returns who answered it; invalid: nobody. The answer
// to an earlier one may come late, which the next time makes up for.
func (c *udpClient) ask() netip.AddrPort {
	_, _ = c.conn.Write([]byte("?"))
	_ = c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	buf := make([]byte, 256)
	size, err := c.conn.Read(buf)
	if err != nil {
		return netip.AddrPort{}
	}
	server, _, _ := strings.Cut(string(buf[:size]), " ")
	at, _ := netip.ParseAddrPort(server)
	return at
}

// until asks until the answer is as wanted, three times in a row.
func (c *udpClient) until(t *testing.T, what string, want func(netip.AddrPort) bool) {
	t.Helper()
	var last netip.AddrPort
	for end, good := time.Now().Add(patience), 0; time.Now().Before(end); {
		if last = c.ask(); !want(last) {
			good = 0
			time.Sleep(10 * time.Millisecond)
		} else if good++; good == 3 {
			return
		}
	}
	t.Fatalf("%s: %s to %s was answered last by %s", what, c.host, c.to, last)
}

func (c *udpClient) answered(t *testing.T, what string, by *host, port uint16) {
	t.Helper()
	c.until(t, what, func(a netip.AddrPort) bool {
		return a.IsValid() && a.Addr() == by.addrs[0] && a.Port() == port || a.IsValid() && a.Addr() == by.addrs[1] && a.Port() == port
	})
}

func (c *udpClient) silent(t *testing.T, what string) {
	t.Helper()
	c.until(t, what, func(a netip.AddrPort) bool { return !a.IsValid() })
}
