// Package sandbox runs a program in namespaces of its own: of the network, of
// mounts and of processes. The kernel ends everything in there with the program,
// however it ends, and nothing of it is seen outside.
package sandbox

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
const insideVariable = "SVCPROXY_SANDBOX_INSIDE"

// Inside reports whether this process is the one that Run started.
func Inside() bool { return os.Getenv(insideVariable) != "" }

// Run runs this program again, with other arguments than the program's name, in
// new namespaces. It is the first process there: when it ends the kernel kills all
// others, and with them go the network namespaces, the rules in them, and what was
// mounted. The error is an *exec.ExitError if it failed.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	runtime.LockOSThread() // Pdeathsig is about the thread, not the process
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
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
	case err == nil || errors.As(err, &exit):
		return err
	}
	return fmt.Errorf("in namespaces of its own (needs root): %w", err)
}

// Program does the work of a program in a sandbox: here, if this is one, else by Run.
// failed is the error if what Run started has failed, and said why.
func Program(ctx context.Context, args []string, stdout, stderr io.Writer, failed error, work func() error) error {
	if Inside() {
		return work()
	}
	err := Run(ctx, args, stdout, stderr)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return failed
	}
	return err
}

// Enter makes the namespaces that Run made fit to work in: /proc shows the
// processes in here, /run is empty and in memory, and the loopback interface is up.
func Enter() error {
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
	return IP("link set lo up")
}
