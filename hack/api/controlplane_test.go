package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Where things listen; the network namespace has nothing else in it.
const (
	etcdURL     = "http://127.0.0.1:2379"
	etcdPeerURL = "http://127.0.0.1:2380"
	apiURL      = "https://127.0.0.1:6443"
)

// The tokens of the users that the API server knows.
const (
	adminToken    = "admin"
	svcproxyToken = "svcproxy"
)

// controlPlane is etcd, an API server and a controller manager, all real.
type controlPlane struct {
	t    *testing.T
	bin  string // where the binaries are
	dir  string
	api  *process
	etcd *process
}

// newControlPlane starts one that ends with the test.
func newControlPlane(t *testing.T, bin string) *controlPlane {
	t.Helper()
	c := &controlPlane{t: t, bin: bin, dir: t.TempDir()}
	c.write("tokens", adminToken+`,admin,1,"system:masters"`+"\n"+
		svcproxyToken+`,system:serviceaccount:kube-system:svcproxy,2,"system:serviceaccounts,system:serviceaccounts:kube-system,system:authenticated"`+"\n")
	c.write("key.pem", signingKey(t))
	c.etcd = c.start("etcd", "--data-dir", filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--name", "default",
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL, "--listen-peer-urls", etcdPeerURL,
		"--initial-advertise-peer-urls", etcdPeerURL, "--initial-cluster", "default="+etcdPeerURL)
	c.startAPIServer()
	c.start("kube-controller-manager", "--kubeconfig", c.kubeconfig(adminToken), "--leader-elect=false",
		"--controllers=endpointslice-controller", "--kube-api-qps=1000", "--kube-api-burst=1000", "--secure-port=0")
	return c
}

func (c *controlPlane) startAPIServer() {
	c.t.Helper()
	key := filepath.Join(c.dir, "key.pem")
	c.api = c.start("kube-apiserver", "--etcd-servers", etcdURL, "--bind-address", "0.0.0.0", "--secure-port", "6443",
		"--advertise-address", "127.0.0.1", "--cert-dir", filepath.Join(c.dir, "certs"), "--token-auth-file", filepath.Join(c.dir, "tokens"),
		"--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/108",
		"--service-account-issuer", "https://svcproxy.test", "--service-account-key-file", key, "--service-account-signing-key-file", key,
		"--disable-admission-plugins", "ServiceAccount", "--endpoint-reconciler-type", "none",
		"--max-requests-inflight", "2000", "--max-mutating-requests-inflight", "2000")
	readyz := c.client(adminToken).Discovery().RESTClient().Get().AbsPath("/readyz")
	eventually(c.t, 60*time.Second, "the API server is ready", func() bool { return readyz.Do(context.Background()).Error() == nil })
}

// client talks to the API server as the user of a token, as fast as it can.
func (c *controlPlane) client(token string) *kubernetes.Clientset {
	c.t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: apiURL, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// kubeconfig returns the path of one for the user of a token.
func (c *controlPlane) kubeconfig(token string) string { return c.kubeconfigFor(apiURL, token) }

// kubeconfigFor returns the path of one for who reaches the API server by that address.
func (c *controlPlane) kubeconfigFor(url, token string) string {
	return c.write(token+".kubeconfig", fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"c","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],"users":[{"name":"u","user":{"token":%q}}],
"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}]}`, url, token))
}

// compact makes etcd forget all that was before now.
func (c *controlPlane) compact() {
	c.t.Helper()
	post := func(path, body string) string {
		resp, err := http.Post(etcdURL+path, "application/json", strings.NewReader(body))
		if err != nil {
			c.t.Fatal(err)
		}
		var out bytes.Buffer
		_, _ = out.ReadFrom(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			c.t.Fatalf("etcd %s: %s", path, &out)
		}
		return out.String()
	}
	_, rest, _ := strings.Cut(post("/v3/kv/range", `{"key":"AA=="}`), `"revision":"`)
	revision, _, _ := strings.Cut(rest, `"`)
	post("/v3/kv/compaction", `{"revision":"`+revision+`","physical":true}`)
}

func (c *controlPlane) write(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// process is a running command and what it said.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
}

// start runs a binary until the test ends; its log is shown if the test fails.
func (c *controlPlane) start(name string, args ...string) *process {
	c.t.Helper()
	path := filepath.Join(c.bin, name)
	return startProcess(c.t, filepath.Join(c.dir, name+".log"), path, args...)
}

func startProcess(t *testing.T, log, path string, args ...string) *process {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	p := &process{name: filepath.Base(path), log: log, cmd: exec.Command(path, args...)}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the end of what %s said:\n%s", p.name, p.tail(20))
		}
	})
	return p
}

// stop ends the process by a signal; again does no harm.
func (p *process) stop(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	_ = p.cmd.Wait()
}

// exit waits for the process to end by itself and returns its exit status; -1 if it
// had to be killed.
func (p *process) exit(patience time.Duration) int {
	kill := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) said() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

func (p *process) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(p.said()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// eventually waits until a condition holds.
func eventually(t *testing.T, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}
