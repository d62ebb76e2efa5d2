//go:build linux

package kernel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A command that reads may take two minutes, which is many times what it takes with
// 30,000 services. One that writes has to be given up sooner, as changes wait for it:
// it may take half a minute, of which it may wait five seconds for the lock, and a
// second for each 100 kB of its input, again many times what it takes.
const (
	readTimeout   = 2 * time.Minute
	writeTimeout  = 30 * time.Second
	bytesInSecond = 100_000
)

// timeout is how long a command with an input may take; no input: it reads.
func timeout(stdin []byte) time.Duration {
	if len(stdin) == 0 {
		return readTimeout
	}
	return writeTimeout + time.Duration(len(stdin)/bytesInSecond)*time.Second
}

// endDelay is how long what a command left behind may hold its output open.
const endDelay = 2 * time.Second

// lockWait is how long, in seconds, iptables waits for the xtables lock.
const lockWait = "5"

// runner runs one command. exit is its exit status; err is set if it could not
// be run or was killed.
type runner func(ctx context.Context, stdin []byte, name string, args ...string) (stdout, stderr []byte, exit int, err error)

// newCommand returns a command that is killed when ctx ends, with all that it started:
// modprobe, or what a wrapper script runs. It also is if this process is killed, since
// it might write what is no longer true, and therefore, as the kernel looks at the
// thread that started it, if the thread of the caller ends: that must be locked to it.
func newCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = endDelay
	return cmd
}

func execute(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, []byte, int, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout(stdin))
	defer cancel()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stdout, stderr bytes.Buffer
	cmd := newCommand(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return stdout.Bytes(), stderr.Bytes(), -1, fmt.Errorf("%s was killed: %w", name, ctx.Err())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return stdout.Bytes(), stderr.Bytes(), exit.ExitCode(), nil
	}
	return stdout.Bytes(), stderr.Bytes(), 0, err
}

// output runs a command that must succeed and returns what it printed.
func output(ctx context.Context, run runner, name string, args ...string) ([]byte, error) {
	stdout, stderr, exit, err := run(ctx, nil, name, args...)
	if err == nil && exit != 0 {
		err = newExitError(exit, stderr)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return stdout, nil
}

// exitError is how a command failed.
type exitError struct {
	status int
	stderr string
}

func newExitError(status int, stderr []byte) error {
	return &exitError{status, strings.TrimSpace(string(stderr))}
}

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d: %s", e.status, e.stderr) }

// maxLine bounds a line of output. The longest rule that iptables takes is a
// fraction of it.
const maxLine = 1 << 20

// eachLine runs a command that must succeed and hands over what it prints line by
// line, while it runs. The first error of f ends the command.
func eachLine(ctx context.Context, f func([]byte) error, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stderr bytes.Buffer
	cmd := newCommand(ctx, name, args...)
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for err == nil && lines.Scan() {
		err = f(lines.Bytes())
	}
	err = errors.Join(err, lines.Err())
	if err != nil {
		cancel()
	}
	ended := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err != nil:
	case ctx.Err() != nil:
		err = fmt.Errorf("killed: %w", ctx.Err())
	case errors.As(ended, &exit) && exit.Exited():
		err = newExitError(exit.ExitCode(), stderr.Bytes())
	default:
		err = ended
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
