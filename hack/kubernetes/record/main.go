// Command record records what the real kube-proxy makes of objects: the iptables
// rules that it writes, in the iptables mode, for both families.
//
//	go run ./record -kube-proxy "$(./build.sh kube-proxy)/kube-proxy" CASE.txtar...
//
// A case is a txtar archive. The last line of its comment is flags that
// kube-proxy gets, its file objects.yaml a List of Node, Service, EndpointSlice
// and ServiceCIDR objects. The files iptables-save and ip6tables-save are written
// anew or, if the case has files whose names begin with http://, what kube-proxy
// answers there instead; all else stays. It needs root and iptables; the rules are
// written in a network namespace of their own, which ends with the program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/tools/txtar"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	binary := flag.String("kube-proxy", "", "`file` to run")
	inside := flag.Bool("in-namespace", false, "used by the program itself: print the rules for one case")
	flag.Parse()
	if *inside {
		return printRecord(ctx, *binary, flag.Arg(0))
	}
	if *binary == "" || flag.NArg() == 0 {
		return errors.New("give -kube-proxy and a case")
	}
	for _, path := range flag.Args() {
		if err := update(ctx, *binary, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Println(path)
	}
	return nil
}

// update records a case in a child with namespaces of its own.
func update(ctx context.Context, binary, path string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	child := exec.CommandContext(ctx, "/proc/self/exe", "-in-namespace", "-kube-proxy", binary, path)
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	recorded := txtar.Parse(out)
	archive, err := txtar.ParseFile(path)
	if err != nil {
		return err
	}
	for _, f := range recorded.Files {
		replace(archive, f)
	}
	return os.WriteFile(path, txtar.Format(archive), 0o644)
}

func replace(a *txtar.Archive, f txtar.File) {
	for i := range a.Files {
		if a.Files[i].Name == f.Name {
			a.Files[i] = f
			return
		}
	}
	a.Files = append(a.Files, f)
}
