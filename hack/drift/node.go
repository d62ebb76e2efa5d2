package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"svcproxy/hack/internal/process"
	"svcproxy/hack/internal/wait"
)

// scratch is in memory, and of the sandbox alone.
const scratch = "/run/drift"

// node is svcproxy on a backend, with Services from a folder.
type node struct {
	svcproxy string
	backend  string
	objects  string // folder
	log      string
	proxy    *process.Process
	read     int // how much of the log is known
}

// writeObjects writes Services of two endpoints each, and returns the folder.
func writeObjects(services int) (string, error) {
	type object = map[string]any
	var items []object
	for i := range services {
		name := fmt.Sprintf("service-%05d", i)
		items = append(items, object{
			"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name, "namespace": "default"},
			"spec": object{"clusterIP": fmt.Sprintf("10.96.%d.%d", i/250, i%250+1), "ports": []object{{"port": 80, "protocol": "TCP"}}},
		}, object{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
			"metadata": object{"name": name + "-1", "namespace": "default", "labels": object{"kubernetes.io/service-name": name}},
			"ports":    []object{{"name": "", "port": 8080, "protocol": "TCP"}},
			"endpoints": []object{
				{"addresses": []string{fmt.Sprintf("10.128.%d.%d", i/250, i%250+1)}},
				{"addresses": []string{fmt.Sprintf("10.129.%d.%d", i/250, i%250+1)}},
			},
		})
	}
	text, err := json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		return "", err
	}
	dir := filepath.Join(scratch, fmt.Sprintf("%d-services", services)) // nothing else is in it: svcproxy follows what changes
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "objects.json"), text, 0o600)
}

// flags are those of svcproxy that say what the rules are.
func (n *node) flags() []string {
	return []string{"-f", n.objects, "--hostname-override=drift", "--iptables-backend=" + n.backend, "--cluster-cidr=10.128.0.0/9"}
}

// patience is how long anything may take.
const patience = 5 * time.Minute

// start starts svcproxy and waits until its rules are in the kernel and it has come
// to rest.
func (n *node) start(ctx context.Context) error {
	n.log = filepath.Join(scratch, "svcproxy-"+n.backend+"-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	n.read = 0
	p, err := process.Start(n.log, nil, n.svcproxy, append(n.flags(), "-v=2")...)
	if err != nil {
		return err
	}
	n.proxy = p
	for end := time.Now().Add(patience); !healthy(); {
		if err := errors.Join(p.Alive(), wait.Sleep(ctx, 50*time.Millisecond)); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("svcproxy has not synced in %v: %s", patience, p.Tail(5))
		}
	}
	return n.rest(ctx)
}

func healthy() bool {
	answer, err := http.Get("http://127.0.0.1:10256/healthz")
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// restTime is how long svcproxy does nothing when it has nothing to do.
const restTime = time.Second

func (n *node) rest(ctx context.Context) error { return n.proxy.Settled(ctx, restTime, patience) }

// fruitless is more than svcproxy waits after a read that found nothing wrong, as one
// is that follows a change of others' rules.
const fruitless = 10 * time.Second

// ready waits until svcproxy is as watchful as ever, after others' rules have changed
// or not.
func (n *node) ready(ctx context.Context, others bool) error {
	if others {
		if err := wait.Sleep(ctx, fruitless); err != nil {
			return err
		}
	}
	return n.rest(ctx)
}

func (n *node) stop() { n.proxy.Stop(syscall.SIGTERM) }

// What svcproxy logs, with -v 2, when it has found drift and when it has written.
const (
	driftWords  = "Somebody else changed the kernel's rules"
	syncedWords = `"Synced" family="IPv4"`
)

// forget takes the log as known.
func (n *node) forget() { n.read = len(n.proxy.Said()) }

// healed waits until the log says that drift was found, and then a sync done.
func (n *node) healed(ctx context.Context) error {
	for end := time.Now().Add(patience); ; {
		text := n.proxy.Said()[n.read:]
		if _, after, found := strings.Cut(text, driftWords); found && strings.Contains(after, syncedWords) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not healed in %v; svcproxy said: %s", patience, text)
		}
		if err := errors.Join(n.proxy.Alive(), wait.Sleep(ctx, 5*time.Millisecond)); err != nil {
			return err
		}
	}
}

// right fails unless the kernel has the rules wanted.
func (n *node) right(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, n.svcproxy, append([]string{"diff", "--brief"}, n.flags()...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("svcproxy diff: %w: %s", err, out)
	}
	return nil
}

// cleanUp removes all rules, so that the other backend has the node for itself.
func (n *node) cleanUp(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, n.svcproxy, "--cleanup").CombinedOutput()
	if err != nil {
		return fmt.Errorf("svcproxy --cleanup: %w: %s", err, out)
	}
	return nil
}
