package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"svcproxy/hack/internal/process"
	"svcproxy/hack/internal/proxies"
	"svcproxy/hack/internal/sandbox"
	"svcproxy/hack/internal/wait"
)

// node is where the proxy runs.
type node struct {
	sandbox.Netns
	kind    proxies.Kind
	path    string // the program
	args    []string
	dir     string
	disk    string // where the proxy writes: a small file system of its own
	tools   *proxies.Tools
	proxy   *process.Process
	started int // how often
}

// diskSize is enough for all that a proxy says.
const diskSize = "size=32m,nr_inodes=32"

// newNode returns a node in a network namespace; nothing runs there yet.
func newNode(ns sandbox.Netns, kind proxies.Kind, dir string) (*node, error) {
	n := &node{Netns: ns, kind: kind, dir: dir, disk: filepath.Join(dir, "disk")}
	if err := os.Mkdir(n.disk, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", n.disk, "tmpfs", 0, diskSize); err != nil {
		return nil, fmt.Errorf("mount %s: %w", n.disk, err)
	}
	var err error
	n.tools, err = proxies.NewTools(dir, kind.Backend)
	return n, err
}

// lockFile is where iptables looks for the xtables lock.
func (n *node) lockFile() string { return filepath.Join(n.disk, "xtables.lock") }

func (n *node) env() []string {
	return []string{"XTABLES_LOCKFILE=" + n.lockFile(), "TMPDIR=" + n.disk, "PATH=" + n.tools.Dir + ":" + os.Getenv("PATH")}
}

// start starts the proxy.
func (n *node) start() error {
	n.started++
	return n.Do(func() (err error) {
		n.proxy, err = process.Start(filepath.Join(n.disk, "log"), n.env(), n.path, n.args...)
		return err
	})
}

// restartDelay is how long kubelet takes to start what has ended.
const restartDelay = time.Second

// restart kills the proxy and starts it again after a while.
func (n *node) restart(ctx context.Context) error {
	n.proxy.Stop(syscall.SIGKILL)
	if err := wait.Sleep(ctx, restartDelay); err != nil {
		return err
	}
	return n.start()
}

// giveUp restarts the proxy and ends the commands that it left.
func (n *node) giveUp(ctx context.Context) error {
	n.proxy.Stop(syscall.SIGKILL)
	for _, pid := range n.PIDs() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return n.restart(ctx)
}

// end ends the proxy, and its disk.
func (n *node) end() {
	if n.proxy != nil {
		n.proxy.Stop(syscall.SIGKILL)
	}
	_ = unix.Unmount(n.disk, unix.MNT_DETACH)
}

// run runs one of the real commands on the node and returns what it printed.
func (n *node) run(ctx context.Context, stdin, name string, args ...string) (string, error) {
	var out []byte
	err := n.Do(func() (err error) {
		cmd := exec.CommandContext(ctx, filepath.Join(n.tools.Real, name), args...)
		cmd.Env, cmd.Stdin = append(os.Environ(), n.env()...), strings.NewReader(stdin)
		if out, err = cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
		}
		return nil
	})
	return string(out), err
}

// gauges is what a process has at a moment.
type gauges struct {
	Goroutines, FDs float64
	RSS             float64 // bytes
}

// gauges asks the proxy for its metrics, as soon as it answers.
func (n *node) gauges(ctx context.Context) (gauges, error) {
	for end := time.Now().Add(firstSync); ; {
		g, err := n.metrics()
		if err == nil || time.Now().After(end) {
			return g, err
		}
		if err := wait.Sleep(ctx, 100*time.Millisecond); err != nil {
			return g, err
		}
	}
}

func (n *node) metrics() (gauges, error) {
	var g gauges
	err := n.Do(func() error {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:10249", time.Second) // not by http, which would dial on another thread
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(apiPatience))
		if _, err := conn.Write([]byte("GET /metrics HTTP/1.0\r\n\r\n")); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		fields := map[string]*float64{"go_goroutines": &g.Goroutines, "process_open_fds": &g.FDs, "process_resident_memory_bytes": &g.RSS}
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), " ")
			if field := fields[name]; field != nil {
				if *field, err = strconv.ParseFloat(value, 64); err != nil {
					return fmt.Errorf("metric %s: %w", name, err)
				}
			}
		}
		return lines.Err()
	})
	return g, err
}
