// Package process runs commands that are measured and disturbed from outside.
package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"svcproxy/hack/internal/wait"
)

// Process is a command that was started.
type Process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// Start runs a command in the network namespace of the thread. What it says is
// appended to the file log; env is added to the environment.
func Start(log string, env []string, path string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	p := &Process{cmd: exec.Command(path, args...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Name is the name of the program.
func (p *Process) Name() string { return filepath.Base(p.cmd.Path) }

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Alive fails with what the process last said if it has ended.
func (p *Process) Alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %v: %s", p.Name(), p.cmd.ProcessState, p.Tail(10))
	default:
		return nil
	}
}

// ExitCode is the exit status of a process that has ended; -1 if a signal ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Said is all that the process, and those before it with the same log, said.
func (p *Process) Said() string {
	text, _ := os.ReadFile(p.log)
	return string(text)
}

// Tail is the last lines of what was said.
func (p *Process) Tail(lines int) string {
	all := strings.Split(strings.TrimSpace(p.Said()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Stop ends the process by a signal and waits for that; again does no harm.
func (p *Process) Stop(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	p.Resume()
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// Pause takes the process off the processors until Resume.
func (p *Process) Pause() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets the process go on.
func (p *Process) Resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// tick is the unit of times in /proc.
const tick = 10 * time.Millisecond

// CPU is what the process and its ended children took of the processors.
func (p *Process) CPU() (time.Duration, error) {
	fields, err := stat(p.PID())
	if err != nil {
		return 0, err
	}
	var ticks time.Duration
	for _, f := range fields[13:17] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("CPU time of %d: %w", p.PID(), err)
		}
		ticks += time.Duration(n)
	}
	return ticks * tick, nil
}

// RSS is the memory of the process, in bytes.
func (p *Process) RSS() (int64, error) {
	kb, err := p.status("VmRSS")
	return kb << 10, err
}

// status returns a number of /proc/PID/status.
func (p *Process) status(name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("process %d has no %s", p.PID(), name)
}

// Children are the numbers of the processes that this one started and has not
// waited for.
func (p *Process) Children() []int {
	var out []int
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range all {
		pid, _ := strconv.Atoi(filepath.Base(path))
		if fields, err := stat(pid); err == nil && fields[3] == strconv.Itoa(p.PID()) {
			out = append(out, pid)
		}
	}
	return out
}

// stat returns the fields of /proc/PID/stat; the name counts as one.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(text, ')')
	fields := append([]string{"", ""}, strings.Fields(string(text[end+1:]))...)
	if end < 0 || len(fields) < 17 {
		return nil, fmt.Errorf("stat of process %d: %q", pid, text)
	}
	return fields, nil
}

// Settled waits until the process has had nothing to do for a while.
func (p *Process) Settled(ctx context.Context, quiet, patience time.Duration) error {
	var last time.Duration
	since, end := time.Now(), time.Now().Add(patience)
	for time.Since(since) < quiet {
		if time.Now().After(end) {
			return fmt.Errorf("%s does not come to rest in %v", p.Name(), patience)
		}
		if err := wait.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if err := p.Alive(); err != nil {
			return err
		}
		now, err := p.CPU()
		if err != nil {
			return err
		}
		if now > last+tick || len(p.Children()) > 0 {
			last, since = now, time.Now()
		}
	}
	return nil
}
