package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
	"svcproxy/pkg/status"
)

// statusObjects are a Service with three endpoints, one of them not ready, one
// without any, and one whose endpoints are elsewhere.
const statusObjects = `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: here}, status: {addresses: [{type: InternalIP, address: 10.250.0.2}]}}
- apiVersion: v1
  kind: Service
  metadata: {namespace: shop, name: web}
  spec: {type: NodePort, clusterIP: 10.96.0.10, ports: [{name: http, port: 80, protocol: TCP, nodePort: 30080}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{name: http, port: 8080, protocol: TCP}]
  endpoints:
  - {addresses: [10.21.1.5], nodeName: here, conditions: {ready: true}}
  - {addresses: [10.21.2.6], nodeName: elsewhere, conditions: {ready: true}}
  - {addresses: [10.21.2.7], nodeName: elsewhere, conditions: {ready: false}}
- apiVersion: v1
  kind: Service
  metadata: {namespace: shop, name: cart}
  spec: {clusterIP: 10.96.0.11, ports: [{port: 80, protocol: TCP}]}
- apiVersion: v1
  kind: Service
  metadata: {namespace: kube-system, name: kube-dns}
  spec: {clusterIP: 10.96.0.2, internalTrafficPolicy: Local, ports: [{name: dns, port: 53, protocol: UDP}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {namespace: kube-system, name: kube-dns-1, labels: {kubernetes.io/service-name: kube-dns}}
  addressType: IPv4
  ports: [{name: dns, port: 53, protocol: UDP}]
  endpoints:
  - {addresses: [10.21.1.9], nodeName: here, conditions: {ready: true}}
`

// statusNode makes the network of a node that reaches everybody by a bridge that
// nobody is at, and returns a file with statusObjects.
func statusNode(t *testing.T) string {
	t.Helper()
	for _, args := range []string{"link add br0 type bridge", "addr add 10.250.0.2/24 dev br0", "link set br0 up", "route add default via 10.250.0.1"} {
		kerneltest.Run(t, "", "ip", strings.Fields(args)...)
	}
	path := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(path, []byte(statusObjects), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// connectTo makes connections that nobody answers: the rules see their first packets.
func connectTo(t *testing.T, network, address string, n int) {
	t.Helper()
	at := netip.MustParseAddrPort(address)
	kind := unix.SOCK_STREAM
	if network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	for range n {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil && err != unix.EINPROGRESS {
			t.Error(err)
		}
		if network == "udp" {
			if _, err := unix.Write(fd, []byte("x")); err != nil {
				t.Error(err)
			}
		}
		_ = unix.Close(fd)
	}
}

// cli runs a command line and returns what it printed.
func cli(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = run(context.Background(), args, strings.NewReader(""), &out, &err)
	return status, out.String(), err.String()
}

func TestStatus(t *testing.T) {
	if !inside(t) {
		return
	}
	objects := statusNode(t)
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			t.Cleanup(func() { cli("--cleanup") })
			t.Run("of a svcproxy that runs", func(t *testing.T) {
				serveNode(t, "-f="+objects, "--hostname-override=here", "--iptables-backend="+backend, "--ip-family=ipv4")
				kerneltest.Run(t, "", "conntrack", "-F")
				connectTo(t, "tcp", "10.96.0.10:80", 40)
				connectTo(t, "udp", "10.96.0.2:53", 3)
				checkStatus(t, backend)
				checkPage(t)
			})
			t.Run("of the kernel", func(t *testing.T) { checkKernelStatus(t, backend, objects) })
		})
	}
}

func checkStatus(t *testing.T, backend string) {
	code, text, stderr := cli("status")
	if code != 0 || stderr != "" {
		t.Fatalf("status %d: %s", code, stderr)
	}
	for _, line := range []string{
		`^here: svcproxy devel, iptables-` + backend + `, 3 Services$`,
		`^  IPv4  synced \S+ ago in \S+, 4 endpoints, \d+ nat and \d+ filter rules$`,
		`^kube-system/kube-dns:dns/UDP +10.96.0.2:53 +10.21.1.9:53 +local 100.0% +100.0% +3$`,
		`^shop/cart:80 +10.96.0.11:80 +no endpoint: refused$`,
		`^shop/web:http +10.96.0.10:80 +10.21.1.5:8080 +50.0% +\d+.\d% +\d+$`,
		`^ +10.21.2.7:8080 +unready +-$`,
	} {
		if !regexp.MustCompile("(?m)" + line).MatchString(text) {
			t.Errorf("no line is %s in\n%s", line, text)
		}
	}
	checkDocument(t, "svcproxy status", strings.ReplaceAll(text, "iptables-legacy", "iptables-nft"))
	code, text, _ = cli("status", "-o", "json", "shop/web")
	r := parseStatus(t, text)
	if code != 0 || len(r.Services) != 1 || *r.Services[0].Ports[0].Balances[0].Connections != 40 {
		t.Errorf("status %d: %s", code, text)
	}
	code, text, _ = cli("status", "-o", "wide", "--sort=connections", "--limit=1", "--search=WEB")
	if flows := regexp.MustCompile(`(?m)^shop/web:http .* ready +here +50.0% +\S+ +(\d+) +(\d+) +KUBE-SEP-`).FindStringSubmatch(text); code != 0 || flows == nil || flows[1] != flows[2] {
		t.Errorf("the flows of an endpoint are not as many as its connections:\n%s", text)
	}
	if code, _, stderr := cli("status", "shop/wbe", "web"); code != 1 || !strings.Contains(stderr, "no Service shop/wbe (there is shop/web)") ||
		!strings.Contains(stderr, "no Service in namespace web (there is shop/web)") {
		t.Errorf("status %d: %s", code, stderr)
	}
	checkWatchOfNobody(t)
	if code, text, _ := cli("status", "-o=yaml", "--trouble"); code != 0 || !strings.Contains(text, "name: cart") || strings.Contains(text, "name: web") {
		t.Errorf("status %d: %s", code, text)
	} else if err := yaml.UnmarshalStrict([]byte(text), &status.Report{}); err != nil {
		t.Error(err)
	}
}

// checkWatchOfNobody: a name that is not there is not waited for.
func checkWatchOfNobody(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"status", "--watch", "shop/wbe"}, strings.NewReader(""), &out, &errs)
	if code != 1 || !strings.Contains(errs.String(), "no Service shop/wbe (there is shop/web)") {
		t.Errorf("status %d: %s", code, &errs)
	}
}

// checkPage looks at the page of a svcproxy that runs, its picture and its traces.
func checkPage(t *testing.T) {
	t.Helper()
	for path, want := range map[string]string{
		"/": `href="/page/service/shop/web"`, "/page/service/shop/web": "KUBE-SVC-67NZLRHBNDSAWJRO", "/page/trace?from=node&to=shop/web": "10.21.1.5:8080",
		"/page/trace?to=shop/wbe": "shop/web", "/page/style.css": "prefers-color-scheme",
	} {
		if answer := answerOf(t, "http://127.0.0.1:10249"+path); !strings.HasPrefix(answer, "200 text/") || !strings.Contains(answer, want) {
			t.Errorf("%s: nothing says %s:\n%s", path, want, answer)
		}
	}
}

// checkKernelStatus runs where the rules are left and no svcproxy is.
func checkKernelStatus(t *testing.T, backend, objects string) {
	args := []string{"status", "-o=json", "--iptables-backend=" + backend, "--ip-family=ipv4"}
	for _, more := range [][]string{nil, {"-f", objects, "--hostname-override=here"}} {
		code, text, stderr := cli(append(args, more...)...)
		if code != 0 || !strings.Contains(stderr, "nobody answers at 127.0.0.1:10249 (connect: connection refused), so this is what the kernel has") {
			t.Fatalf("status %d: %s", code, stderr)
		}
		r := parseStatus(t, text)
		if len(r.Services) != 3 {
			t.Fatalf("%d Services: %s", len(r.Services), text)
		}
		web := r.Services[2].Ports[0]
		if r.Services[2].ID() != "shop/web" || *web.Balances[0].Connections != 40 || web.Endpoints[0].Shares[0].Wanted != 0.5 || len(web.Addresses) != 2 {
			t.Errorf("%v: %s", more, text)
		}
		if cart := r.Services[1]; cart.ID() != "shop/cart" || cart.Ports[0].Refuses() != status.RefusedAll {
			t.Errorf("%v: %s", more, text)
		}
	}
}

func parseStatus(t *testing.T, text string) *status.Report {
	t.Helper()
	var r status.Report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return &r
}

func TestStatusWatches(t *testing.T) {
	if !inside(t) {
		return
	}
	objects := statusNode(t)
	serveNode(t, "-f="+objects, "--hostname-override=here", "--ip-family=ipv4")
	connectTo(t, "tcp", "10.96.0.10:80", 7)
	var out syncBuffer
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"status", "--watch=200ms", "-o=json", "shop/web"}, strings.NewReader(""), &out, &out)
	}()
	connections := func() (all []uint64) {
		for _, text := range strings.SplitAfter(out.String(), "\n]}\n") {
			var r status.Report
			if json.Unmarshal([]byte(text), &r) == nil && len(r.Services) > 0 {
				all = append(all, *r.Services[0].Ports[0].Balances[0].Connections)
			}
		}
		return all
	}
	eventually(t, "two reports, the first of all connections, the second of none", func() bool {
		c := connections()
		return len(c) > 1 && c[0] == 7 && c[1] == 0
	})
	connectTo(t, "tcp", "10.96.0.10:80", 5)
	eventually(t, "the new connections are told", func() bool {
		sum := uint64(0)
		for _, n := range connections() {
			sum += n
		}
		return sum == 12
	})
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("it ended with %d", code)
	}
}

func TestStatusUsage(t *testing.T) {
	for arg, want := range map[string]string{
		"-o=xml": "must be text, wide, json or yaml", "--sort=size": "--sort", "--limit=-1": "must not be negative",
		"a/b/c": "neither NAMESPACE nor NAMESPACE/NAME", "--watch=1ms": "must be 100ms or more", "--no-such-flag": "unknown flag",
	} {
		if code, stdout, stderr := cli("status", arg); code != 2 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: status %d, %s%s", arg, code, stdout, stderr)
		}
	}
	if code, _, stderr := cli("status", "--watch", "5s"); code != 2 || !strings.Contains(stderr, "--watch=5s") {
		t.Errorf("status %d, %s", code, stderr)
	}
}

// What answers on the port may be something else, or ail.
func TestStatusOfStrangers(t *testing.T) {
	for name, c := range map[string]struct {
		code       int
		body, want string
	}{
		"another program": {404, "", "no status to be had: what answers at"},
		"not on loopback": {403, "", "says 403 Forbidden"},
		"another version": {200, `{"apiVersion":"status.svcproxy/v7","services":[` + "\n]}\n", `speaks "status.svcproxy/v7"`},
		"a failure":       {500, "the kernel says no\n", "500 Internal Server Error: the kernel says no"},
		"a broken answer": {200, `{"apiVersion":"status.svcproxy/v1","services":[` + "\n" + `{"ports":[]}` + "\n", "ends before its end"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.code)
				_, _ = w.Write([]byte(c.body))
			}))
			defer s.Close()
			client, err := newStatusClient(strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.report(t.Context(), &status.Query{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
	for address, want := range map[string]string{
		"0.0.0.0:1": "127.0.0.1:1", "[::]:1": "[::1]:1", "127.0.0.2:1": "127.0.0.2:1", "[::1]:1": "[::1]:1", "10.0.0.1:1": "", "": "", "x": "",
	} {
		c, err := newStatusClient(address)
		if want == "" && err == nil || want != "" && (err != nil || c.address != want) {
			t.Errorf("%q: %+v, %v, want %s", address, c, err, want)
		}
	}
}

// A page of somebody else's cannot have a browser on the node read the status.
func TestStatusIsForThoseOnTheNode(t *testing.T) {
	o := configured(t)
	answers := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	h := o.localHandler(localHandlers{health: http.NotFoundHandler(), status: answers, page: answers})
	for _, c := range []struct {
		to, host string
		code     int
	}{
		{"127.0.0.1", "localhost:10249", 200}, {"127.0.0.1", "127.0.0.1", 200}, {"::1", "[::1]:10249", 200}, {"::1", "[::1]", 200},
		{"127.0.0.1", "evil.example:10249", 403}, {"127.0.0.1", "10.250.0.2:10249", 403}, {"127.0.0.1", "localhost.evil.example", 403}, {"127.0.0.1", "", 403},
		{"10.250.0.2", "localhost", 403},
	} {
		for _, path := range []string{"/status", "/", "/page/service/ns/web"} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = c.host
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(c.to)}))
			if h.ServeHTTP(w, r); w.Code != c.code {
				t.Errorf("%s at %s for %q: %d, want %d", path, c.to, c.host, w.Code, c.code)
			}
		}
	}
}

func TestTablesFitTheScreen(t *testing.T) {
	table := &grid{columns: []column{{head: "A"}, {head: "B", spare: 1}, {head: "C", right: true, spare: 2}, {head: "EMPTY"}}}
	table.add(cell{"aaaa", red}, cell{"bb", ""}, cell{"1", ""}, cell{})
	table.add(cell{"a", ""}, cell{}, cell{"100", ""}, cell{})
	for _, c := range []struct {
		screen screen
		want   string
	}{
		{screen{}, "A     B     C\naaaa  bb    1\na         100\n"},
		{screen{terminal: terminal{width: 13}}, "A     B     C\naaaa  bb    1\na         100\n"},
		{screen{terminal: terminal{width: 12}}, "A     B\naaaa  bb\na\n"},
		{screen{terminal: terminal{width: 3}}, "A\naaaa\na\n"},
		{screen{terminal: terminal{width: 3, colour: true}}, "\x1b[1mA\x1b[0m\n\x1b[31maaaa\x1b[0m\na\n"},
	} {
		var out bytes.Buffer
		c.screen.stdout = &out
		if err := c.screen.print(table); err != nil {
			t.Fatal(err)
		}
		if got := regexp.MustCompile(` +\n`).ReplaceAllString(out.String(), "\n"); got != c.want {
			t.Errorf("width %d:\n%q, want\n%q", c.screen.width, got, c.want)
		}
	}
}

// A node without IPv6 tables, which svcproxy serves over IPv4 alone, has a status too.
func TestStatusWithoutIPv6(t *testing.T) {
	if !inside(t) {
		return
	}
	dir := t.TempDir()
	for _, name := range []string{"iptables-nft", "iptables-nft-save", "iptables-nft-restore", "iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	for _, backend := range []string{"nft", "legacy"} {
		code, text, stderr := cli("status", "-o=json", "--iptables-backend="+backend)
		if code != 0 {
			t.Fatalf("%s: status %d: %s", backend, code, stderr)
		}
		if r := parseStatus(t, text); len(r.Node.Families) != 1 || r.Node.Families[0].Family != "IPv4" {
			t.Errorf("%s: %+v", backend, r.Node.Families)
		}
		if code, _, _ := cli("status", "--ip-family=ipv6", "--iptables-backend="+backend); code != 1 {
			t.Errorf("%s: IPv6 was asked for: status %d", backend, code)
		}
	}
}

// Somebody who holds the lock keeps IPv6 from being looked at; that it is not there must
// not be said of it.
func TestStatusUnderALockIsAnError(t *testing.T) {
	if !inside(t) {
		return
	}
	for _, table := range rules.Tables() { // what is there is not looked at by a command
		kerneltest.Run(t, "", "iptables-legacy", "-t", string(table), "-S")
	}
	lock, err := os.OpenFile(os.Getenv("XTABLES_LOCKFILE"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := cli("status", "--iptables-backend=legacy")
	if code != 1 || !strings.Contains(stderr, "xtables lock") {
		t.Errorf("status %d: %s", code, stderr)
	}
}

// One question is one request: what it asks for may take the running svcproxy a while.
func TestStatusAsksOnce(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		_ = status.Write(w, &status.Report{APIVersion: status.APIVersion, Node: status.Node{Source: status.FromProxy, Backend: "nft"}})
	}))
	defer s.Close()
	code, _, stderr := cli("status", "--metrics-bind-address="+strings.TrimPrefix(s.URL, "http://"), "--limit=7")
	if code != 0 || len(asked) != 1 || asked[0] != "counters=true&limit=7&sort=name" {
		t.Errorf("status %d, asked %q: %s", code, asked, stderr)
	}
}
