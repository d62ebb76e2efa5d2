package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"svcproxy/hack/internal/process"
	"svcproxy/hack/internal/proxies"
)

const killed = syscall.SIGKILL

// quiet is how long a proxy that does nothing is taken to have nothing to do.
const quiet = 300 * time.Millisecond

// node is a network namespace with a proxy. All proxies but the one that is
// measured are paused.
type node struct {
	*netns
	kind  proxies.Kind
	dir   string
	tools *tools
	opts  *options
	env   []string
	proxy *process.Process

	kubeconfig string
	replay     [][]written // what a change wrote, to and fro
}

func (b *bench) newNode(ctx context.Context, k proxies.Kind) (*node, error) {
	ns, err := b.newNetns(ctx)
	if err != nil {
		return nil, err
	}
	n := &node{netns: ns, kind: k, dir: filepath.Join(scratch, ns.name()), opts: b.opts, kubeconfig: b.objects.kubeconfig}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return nil, err
	}
	if n.tools, err = newTools(n.dir, k.Backend); err != nil {
		return nil, err
	}
	n.env = []string{"XTABLES_LOCKFILE=" + filepath.Join(n.dir, "xtables.lock"), "PATH=" + n.tools.Dir + ":" + os.Getenv("PATH")}
	return n, nil
}

// start starts the proxy.
func (n *node) start() error {
	path, args, err := n.kind.Command(proxies.Node{
		Svcproxy: n.opts.svcproxy, KubeProxy: filepath.Join(n.opts.bin, "kube-proxy"), Kubeconfig: n.kubeconfig,
		Name: n.name(), Dir: n.dir, ClusterCIDRs: []netip.Prefix{clusterNetwork}, MinSync: n.opts.minSync,
	})
	if err != nil {
		return err
	}
	return n.Do(func() error {
		n.proxy, err = process.Start(filepath.Join(n.dir, "log"), n.env, path, args...)
		return err
	})
}

// end removes the node, with the commands that its proxy may have left at work:
// those of one that was given up would take the processors from the next. What goes
// wrong does so again with the next one, or goes away with the bench.
func (n *node) end() {
	n.proxy.Stop(killed)
	n.endCommands()
	_ = n.Remove()
	_ = os.RemoveAll(n.dir)
}

func (n *node) endCommands() {
	for _, pid := range n.PIDs() {
		_ = syscall.Kill(pid, killed)
	}
}

// wake lets the proxy go on and waits until it has caught up.
func (n *node) wake(ctx context.Context) error {
	n.proxy.Resume()
	return n.proxy.Settled(ctx, quiet, n.opts.limit)
}

// rest waits until the proxy could sync at once: waking up it may sync twice, a
// least period apart.
func (n *node) rest(ctx context.Context) error {
	return n.proxy.Settled(ctx, 2*n.opts.minSync+quiet, n.opts.limit)
}

// save prints the nat table.
func (n *node) save(ctx context.Context) ([]byte, error) {
	var out []byte
	err := n.Do(func() error {
		cmd := exec.CommandContext(ctx, filepath.Join(n.tools.Real, "iptables-save"), "-t", "nat")
		var err error
		if out, err = cmd.Output(); err != nil {
			return fmt.Errorf("iptables-save on %s: %w", n.name(), err)
		}
		return nil
	})
	return out, err
}
