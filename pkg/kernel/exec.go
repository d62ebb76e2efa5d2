// Package kernel reads and writes the netfilter tables of the node. It is the
// only package that touches the machine; it knows chains and no Services.
package kernel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// commandTimeout ends a command that hangs. A table of 30,000 services loads in
// less than a tenth of it.
const commandTimeout = 2 * time.Minute

// lockWait is how long, in seconds, iptables waits for the xtables lock.
const lockWait = "5"

// runner runs one command. exit is its exit status; err is set if it could not
// be run or was killed.
type runner func(ctx context.Context, stdin []byte, name string, args ...string) (stdout, stderr []byte, exit int, err error)

func execute(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, []byte, int, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
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
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
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
