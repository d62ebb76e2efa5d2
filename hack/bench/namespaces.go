package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// insideVariable marks the process that is in namespaces of its own.
const insideVariable = "SVCPROXY_BENCH_INSIDE"

// scratch is where everything is written while the bench runs. It is in memory,
// and of the bench's own mount namespace.
const scratch = "/run/bench"

// outside runs this program in new namespaces. It is the first process there:
// when it ends the kernel kills all others, and with them go the network
// namespaces, the rules in them, and the scratch folder.
func outside(ctx context.Context, opts *options, stdout, stderr io.Writer) error {
	runtime.LockOSThread() // Pdeathsig is about the thread, not the process
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", opts.args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &exit):
		return errors.New("not measured to the end")
	case err != nil:
		return fmt.Errorf("in namespaces of its own (needs root): %w", err)
	}
	return nil
}

// enterNamespaces makes the new namespaces fit to work in.
func enterNamespaces() error {
	for _, m := range []struct {
		fs, at string
		flags  uintptr
	}{
		{"", "/", unix.MS_REC | unix.MS_PRIVATE}, // what follows is seen by nobody else
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := unix.Mount(m.fs, m.at, m.fs, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return err
	}
	return ip("link set lo up",
		"addr add "+controlIP.String()+"/32 dev lo",
		// Every pod is here, whatever its address.
		"route add local "+podNetwork.String()+" dev lo",
		// A packet to a Service without rules comes here, and is refused at once.
		"route add local "+serviceNetwork.String()+" dev lo")
}
