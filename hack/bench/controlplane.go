package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const token = "bench"

// controlPlane is etcd and an API server, which end with the bench.
type controlPlane struct {
	bin, dir string
	url      string
	client   *kubernetes.Clientset
}

func newControlPlane(ctx context.Context, bin string) (*controlPlane, error) {
	c := &controlPlane{bin: bin, dir: filepath.Join(scratch, "control-plane"), url: fmt.Sprintf("https://%s:6443", controlIP)}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	c.client, err = kubernetes.NewForConfig(&rest.Config{
		Host: c.url, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"},
	})
	if err != nil {
		return nil, err
	}
	return c, c.start(ctx)
}

func (c *controlPlane) start(ctx context.Context) error {
	const etcdURL, peerURL = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	etcd, err := start(c.path("etcd.log"), nil, filepath.Join(c.bin, "etcd"),
		"--data-dir", c.path("etcd"), "--unsafe-no-fsync", "--name", "default", "--quota-backend-bytes", "8000000000",
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL, "--listen-peer-urls", peerURL,
		"--initial-advertise-peer-urls", peerURL, "--initial-cluster", "default="+peerURL)
	if err != nil {
		return err
	}
	if err := c.writeKeys(); err != nil {
		return err
	}
	api, err := start(c.path("kube-apiserver.log"), nil, filepath.Join(c.bin, "kube-apiserver"),
		"--etcd-servers", etcdURL, "--bind-address", controlIP.String(), "--advertise-address", controlIP.String(), "--secure-port", "6443",
		"--cert-dir", c.path("certs"), "--token-auth-file", c.path("tokens"), "--authorization-mode", "AlwaysAllow",
		"--service-cluster-ip-range", serviceNetwork.String(), "--service-account-issuer", "https://svcproxy.bench",
		"--service-account-key-file", c.path("key.pem"), "--service-account-signing-key-file", c.path("key.pem"),
		"--disable-admission-plugins", "ServiceAccount", "--endpoint-reconciler-type", "none",
		"--enable-priority-and-fairness=false", "--max-requests-inflight", "0", "--max-mutating-requests-inflight", "0")
	if err != nil {
		return err
	}
	return c.ready(ctx, etcd, api)
}

// ready waits until the API server answers.
func (c *controlPlane) ready(ctx context.Context, etcd, api *process) error {
	readyz := c.client.Discovery().RESTClient().Get().AbsPath("/readyz")
	end := time.Now().Add(time.Minute)
	for {
		err := readyz.Do(ctx).Error()
		if err == nil {
			return nil
		}
		for _, p := range []*process{etcd, api} {
			if err := p.alive(); err != nil {
				return err
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("the API server is not ready: %w: %s", err, api.tail(10))
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// writeKeys writes what the API server wants to know users and sign tokens.
func (c *controlPlane) writeKeys() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.path("key.pem"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(c.path("tokens"), []byte(token+",bench,1\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(c.kubeconfig(), fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"c","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],"users":[{"name":"u","user":{"token":%q}}],
"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}]}`, c.url, token), 0o600)
}

func (c *controlPlane) kubeconfig() string { return c.path("kubeconfig") }

func (c *controlPlane) path(name string) string { return filepath.Join(c.dir, name) }
