// Package controlplane runs etcd and an API server, both real, for tests and
// measurements. They are in the network namespace of the thread, and end only by
// signals: whoever starts them does so in a sandbox.
package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"svcproxy/hack/internal/process"
	"svcproxy/hack/internal/wait"
)

// Where etcd listens.
const (
	etcdURL     = "http://127.0.0.1:2379"
	etcdPeerURL = "http://127.0.0.1:2380"
)

// Config says what to run.
type Config struct {
	Bin           string     // folder of the programs, as hack/kubernetes/build.sh prints it
	Dir           string     // folder for data, keys and logs; it exists
	Address       netip.Addr // of the API server, which listens on all IPv4 addresses
	ServiceCIDRs  string     // as --service-cluster-ip-range takes them
	Authorization string     // as --authorization-mode takes it
	Users         []User
}

// ControlPlane is etcd and an API server.
type ControlPlane struct {
	cfg Config

	Etcd, API *process.Process // nil before Start
}

// New returns a control plane that does not run yet; its keys are written.
func New(cfg Config) (*ControlPlane, error) {
	c := &ControlPlane{cfg: cfg}
	return c, c.writeKeys()
}

// Start starts all and waits until the API server is ready.
func (c *ControlPlane) Start(ctx context.Context) error {
	var err error
	c.Etcd, err = c.Run("etcd", "--data-dir", c.path("etcd"), "--unsafe-no-fsync", "--name", "default", "--quota-backend-bytes", "8000000000",
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL, "--listen-peer-urls", etcdPeerURL,
		"--initial-advertise-peer-urls", etcdPeerURL, "--initial-cluster", "default="+etcdPeerURL)
	if err != nil {
		return err
	}
	return c.StartAPIServer(ctx)
}

// StartAPIServer starts the API server, again if it was ended, and waits until it
// is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	var err error
	c.API, err = c.Run("kube-apiserver", "--etcd-servers", etcdURL,
		"--bind-address", "0.0.0.0", "--advertise-address", c.cfg.Address.String(), "--secure-port", "6443",
		"--cert-dir", c.path("certs"), "--token-auth-file", c.path("tokens"), "--authorization-mode", c.cfg.Authorization,
		"--service-cluster-ip-range", c.cfg.ServiceCIDRs, "--service-account-issuer", "https://svcproxy.test",
		"--service-account-key-file", c.path("key.pem"), "--service-account-signing-key-file", c.path("key.pem"),
		"--disable-admission-plugins", "ServiceAccount", "--endpoint-reconciler-type", "none",
		"--enable-priority-and-fairness=false", "--max-requests-inflight", "0", "--max-mutating-requests-inflight", "0")
	if err != nil {
		return err
	}
	return c.ready(ctx)
}

// Run starts one of the programs, which finds its log beside the others.
func (c *ControlPlane) Run(name string, args ...string) (*process.Process, error) {
	return process.Start(c.path(name+".log"), nil, c.Program(name), args...)
}

// Program is the path of one of the programs.
func (c *ControlPlane) Program(name string) string { return filepath.Join(c.cfg.Bin, name) }

// ready waits until the API server answers.
func (c *ControlPlane) ready(ctx context.Context) error {
	client, err := c.Client(c.cfg.Users[0].Token)
	if err != nil {
		return err
	}
	readyz := client.Discovery().RESTClient().Get().AbsPath("/readyz")
	for end := time.Now().Add(time.Minute); ; {
		err := readyz.Do(ctx).Error()
		if err == nil {
			return nil
		}
		for _, p := range []*process.Process{c.Etcd, c.API} {
			if err := p.Alive(); err != nil {
				return err
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("the API server is not ready: %w: %s", err, c.API.Tail(10))
		}
		if err := wait.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// url is how to reach the API server by one of the addresses of its network
// namespace.
func url(a netip.Addr) string { return "https://" + netip.AddrPortFrom(a, 6443).String() }

// Client talks to the API server as the user of a token, as fast as it can.
func (c *ControlPlane) Client(token string) (*kubernetes.Clientset, error) {
	return kubernetes.NewForConfig(&rest.Config{
		Host: url(c.cfg.Address), BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"},
	})
}

// Compact makes etcd forget all that was before now, so that whoever asks the
// API server for changes since then is told that they are gone. An API server
// remembers some by itself, until it is started again.
func (c *ControlPlane) Compact(ctx context.Context) error {
	answer, err := post(ctx, "/v3/kv/range", `{"key":"AA=="}`)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(answer, `"revision":"`)
	revision, _, _ := strings.Cut(rest, `"`)
	_, err = post(ctx, "/v3/kv/compaction", `{"revision":"`+revision+`","physical":true}`)
	return err
}

// post asks etcd.
func post(ctx context.Context, path, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, etcdURL+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var out bytes.Buffer
	if _, err := io.Copy(&out, resp.Body); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("etcd %s: %s", path, &out)
	}
	return out.String(), nil
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.cfg.Dir, name) }
