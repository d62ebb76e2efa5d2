// Package lab tests the whole of svcproxy on the scene: real hosts' worth of
// namespaces, real nginx, real connections.
package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"svcproxy/pkg/kernel/kerneltest"
)

const vip = "http://10.101.231.134/"

func script(t *testing.T, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command("./lab.sh", args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("lab.sh %v: %v\n%s", args, err, out)
	}
}

// client makes a new connection for each request, from the given namespace.
func client(namespace string) *http.Client {
	dial := func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		inside := kerneltest.Inside(namespace, func() { conn, err = (&net.Dialer{}).DialContext(ctx, network, addr) })
		return conn, errors.Join(inside, err)
	}
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
}

// ask makes n requests, eight at a time, and counts who answered; any failure
// fails the test.
func ask(t *testing.T, c *http.Client, n int) map[string]int {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	answers := map[string]int{}
	work := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for range work {
				body, err := get(c)
				mu.Lock()
				answers[body]++
				if err != nil {
					t.Errorf("request: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	for range n {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	return answers
}

func get(c *http.Client) (string, error) {
	resp, err := c.Get(vip)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return string(body), err
}

func TestScene(t *testing.T) {
	kerneltest.NeedRoot(t)
	bin := filepath.Join(t.TempDir(), "svcproxy")
	if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/svcproxy").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			lab := "svcproxy-test-" + backend
			env := []string{"LAB=" + lab, "BACKEND=" + backend, "SVCPROXY=" + bin}
			t.Cleanup(func() { script(t, env, "down") })
			script(t, env, "up")
			scene(t, lab, env)
		})
	}
}

func scene(t *testing.T, lab string, env []string) {
	node := client(lab + "-centos100")
	got := ask(t, node, 2000)
	// 5 sigma of a binomial with n = 2000 and p = 1/2.
	if d := got["10.21.1.2\n"] - 1000; d < -112 || d > 112 || len(got) != 2 {
		t.Errorf("2000 connections from the node: %v, want half each within 112", got)
	}
	if got := ask(t, client(lab+"-pod-10.21.1.2"), 50); got["10.21.1.2\n"] == 0 || got["10.21.3.2\n"] == 0 {
		t.Errorf("from an endpoint's own pod: %v, want both, itself too", got)
	}
	during := make(chan map[string]int)
	go func() { during <- ask(t, node, 3000) }()
	script(t, env, "endpoints", "10.21.0.2", "10.21.1.2", "10.21.3.2")
	time.Sleep(1500 * time.Millisecond)
	script(t, env, "endpoints", "10.21.0.2", "10.21.3.2")
	<-during
	time.Sleep(1500 * time.Millisecond)
	if got := ask(t, node, 200); got["10.21.0.2\n"] == 0 || got["10.21.3.2\n"] == 0 || len(got) != 2 {
		t.Errorf("after one endpoint came and one went: %v", got)
	}
}
