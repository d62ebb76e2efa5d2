package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// patience is how long an endpoint may take; it is far more than any does.
const patience = 20 * time.Second

// seen is something that came, and when.
type seen struct {
	what string
	at   time.Time
}

// await returns when something came, and passes over all else.
func await(ctx context.Context, from <-chan seen, what string) (time.Time, error) {
	end := time.After(patience)
	for {
		select {
		case s, ok := <-from:
			if !ok {
				return time.Time{}, errors.New("nothing more comes")
			}
			if s.what == what {
				return s.at, nil
			}
		case <-end:
			return time.Time{}, fmt.Errorf("not after %v", patience)
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// watchSlice hands out the addresses of the slice as its events come.
func watchSlice(ctx context.Context, client kubernetes.Interface) (<-chan seen, error) {
	w, err := client.DiscoveryV1().EndpointSlices(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return nil, err
	}
	out := make(chan seen, 100)
	go func() {
		defer close(out)
		for e := range w.ResultChan() {
			if s, ok := e.Object.(*discoveryv1.EndpointSlice); ok && len(s.Endpoints) == 1 {
				out <- seen{s.Endpoints[0].Addresses[0], time.Now()}
			}
		}
	}()
	return out, nil
}

// monitor hands out the endpoint chains that come to be in a network namespace,
// as the kernel tells of them after each commit.
func monitor(ctx context.Context, netns string) (<-chan seen, error) {
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", netns, "stdbuf", "-oL", "nft", "monitor", "new", "chains")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watch the kernel in %s: %w", netns, err)
	}
	out := make(chan seen, 1000)
	go func() {
		defer close(out)
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			at := time.Now()
			for _, word := range strings.Fields(lines.Text()) {
				if strings.HasPrefix(word, "KUBE-SEP-") {
					out <- seen{word, at}
				}
			}
		}
		_ = cmd.Wait()
	}()
	return out, nil
}

// chain is the name that kube-proxy and svcproxy give to the endpoint's chain.
func chain(address string) string {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s/%stcp%s:%d", namespace, name, address, port)))
	return "KUBE-SEP-" + base32.StdEncoding.EncodeToString(sum[:10])
}
