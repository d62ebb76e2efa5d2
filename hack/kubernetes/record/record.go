package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/tools/txtar"
)

const (
	settled  = time.Second      // rules that did not change for so long are final
	patience = 60 * time.Second // for kube-proxy to write them
)

// printRecord runs kube-proxy for a case, in the network namespace that this
// process is in, and prints the rules as a txtar archive.
func printRecord(ctx context.Context, binary, path string) error {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		return err
	}
	objects, err := readObjects(archive)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "record-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Setenv("XTABLES_LOCKFILE", filepath.Join(dir, "xtables.lock")); err != nil {
		return err
	}
	if err := network(ctx, objects.nodeAddresses()); err != nil {
		return err
	}
	kubeconfig, err := serve(objects, dir)
	if err != nil {
		return err
	}
	args := []string{"--proxy-mode=iptables", "--kubeconfig=" + kubeconfig, "--hostname-override=" + objects.nodeName(),
		"--conntrack-max-per-core=0", "--conntrack-min=0", "--healthz-bind-address=127.0.0.1:10256"}
	out, err := record(ctx, binary, append(args, flagsOf(archive)...), archive)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(txtar.Format(out))
	return err
}

// flagsOf reads the flags of a case from the last line of its comment.
func flagsOf(a *txtar.Archive) []string {
	lines := strings.Split(strings.TrimSpace(string(a.Comment)), "\n")
	return strings.Fields(lines[len(lines)-1])
}

// network gives this namespace the node's addresses and a default route.
func network(ctx context.Context, addrs []string) error {
	script := "link set lo up\nlink add eth0 type bridge\nlink set eth0 up\n"
	for _, a := range addrs {
		bits := "24"
		if strings.Contains(a, ":") {
			bits = "64 nodad"
		}
		script += "addr add " + a + "/" + bits + " dev eth0\n"
	}
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("set up the network: %w\n%s", err, out)
	}
	return nil
}

// serve starts the API server and returns a kubeconfig for it.
func serve(objects *objects, dir string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = http.Serve(l, &apiServer{objects}) }()
	path := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
"clusters":[{"name":"c","cluster":{"server":"http://%s"}}],"contexts":[{"name":"c","context":{"cluster":"c"}}]}`, l.Addr())
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// record runs kube-proxy until its rules are final, and returns them or, of a case
// that has answers of its servers, those.
func record(ctx context.Context, binary string, args []string, archive *txtar.Archive) (*txtar.Archive, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	out, err := finalRules(ctx)
	if answers := wantedAnswers(archive); err == nil && len(answers) > 0 {
		out, err = recordAnswers(ctx, answers)
	}
	_ = cmd.Process.Kill() // it has nothing to put in order
	if ended := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("kube-proxy %v: %w, %w\n%s", args, err, ended, log.Bytes())
	}
	return out, nil
}

// finalRules waits until kube-proxy has written its rules and left them alone.
func finalRules(ctx context.Context) (*txtar.Archive, error) {
	var last []byte
	for {
		out := &txtar.Archive{}
		ready := true
		for _, tool := range []string{"iptables-save", "ip6tables-save"} {
			text, err := save(ctx, tool)
			if err != nil {
				return nil, err
			}
			out.Files = append(out.Files, txtar.File{Name: tool, Data: text})
			ready = ready && bytes.Contains(text, []byte("-A KUBE-POSTROUTING"))
		}
		now := txtar.Format(out)
		if ready && bytes.Equal(now, last) {
			return out, nil
		}
		last = now
		select {
		case <-time.After(settled):
		case <-ctx.Done():
			return nil, errors.New("no rules in time")
		}
	}
}

var counters = regexp.MustCompile(`\[\d+:\d+\]`)

// save prints the tables filter and nat without what differs from run to run.
func save(ctx context.Context, tool string) ([]byte, error) {
	var out []byte
	for _, table := range []string{"nat", "filter"} {
		text, err := exec.CommandContext(ctx, tool, "-t", table).Output()
		if err != nil {
			return nil, fmt.Errorf("%s -t %s: %w", tool, table, err)
		}
		for line := range bytes.Lines(text) {
			if !bytes.HasPrefix(line, []byte("#")) {
				out = append(out, counters.ReplaceAll(line, []byte("[0:0]"))...)
			}
		}
	}
	return out, nil
}
