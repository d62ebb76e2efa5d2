package main

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
)

// process is a running command that is measured from outside.
type process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// start runs a command in the network namespace of the thread.
func start(log string, env []string, path string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	p := &process{cmd: exec.Command(path, args...), log: log, ended: make(chan struct{})}
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

func (p *process) pid() int { return p.cmd.Process.Pid }

// alive fails with what the process last said if it has ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %v: %s", filepath.Base(p.cmd.Path), p.cmd.ProcessState, p.tail(10))
	default:
		return nil
	}
}

func (p *process) tail(lines int) string {
	text, _ := os.ReadFile(p.log)
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// stop ends the process by a signal and waits for that.
func (p *process) stop(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	p.resume()
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// pause takes the process off the processors, so that it does not disturb what
// is measured of another one.
func (p *process) pause()  { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// tick is the unit of times in /proc.
const tick = 10 * time.Millisecond

// cpu is what the process and its ended children took of the processors.
func (p *process) cpu() (time.Duration, error) {
	fields, err := stat(p.pid())
	if err != nil {
		return 0, err
	}
	var ticks time.Duration
	for _, f := range fields[13:17] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("CPU time of %d: %w", p.pid(), err)
		}
		ticks += time.Duration(n)
	}
	return ticks * tick, nil
}

// rss is the memory of the process, in bytes.
func (p *process) rss() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", p.pid())
}

// busy reports whether a child is at work.
func (p *process) busy() bool {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range all {
		pid, _ := strconv.Atoi(filepath.Base(path))
		if fields, err := stat(pid); err == nil && fields[3] == strconv.Itoa(p.pid()) {
			return true
		}
	}
	return false
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

// settled waits until the process has had nothing to do for a while.
func (p *process) settled(ctx context.Context, quiet, patience time.Duration) error {
	var last time.Duration
	since, end := time.Now(), time.Now().Add(patience)
	for time.Since(since) < quiet {
		if time.Now().After(end) {
			return fmt.Errorf("%s does not come to rest in %v", filepath.Base(p.cmd.Path), patience)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if err := p.alive(); err != nil {
			return err
		}
		now, err := p.cpu()
		if err != nil {
			return err
		}
		if now > last+tick || p.busy() {
			last, since = now, time.Now()
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
