package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"svcproxy/hack/internal/wait"
)

// processFaults are those of the proxy's process and of the node's.
func processFaults() []*fault {
	return []*fault{
		{name: "killed", stuck: true, times: 3, make: killed,
			how: "kill -9 of the proxy at a random moment; started again after a second"},
		{name: "killed-writing", stuck: true, times: 3, make: killedWriting,
			how: "kill -9 of the proxy up to 15 ms after it started iptables-restore; started again after a second"},
		{name: "paused", stuck: true, make: paused,
			how: "the proxy is stopped for 20 seconds (SIGSTOP), as when a machine is suspended: to the process its clocks jump"},
		{name: "disk-full", stuck: true, make: diskFull,
			how: "the file system of its log, temporary files and the xtables lock, whose file is deleted, has no block and no inode left for 10 seconds"},
	}
}

func killed(ctx context.Context, s *scene) error {
	if err := wait.Sleep(ctx, s.upTo(s.long(2*time.Second, time.Second))); err != nil {
		return err
	}
	return s.node.restart(ctx)
}

// marking tells that a command runs, which it then does.
const marking = `#!/bin/sh
: >%[2]s/restoring
exec %[1]s "$@"
`

func killedWriting(ctx context.Context, s *scene) error {
	mark := filepath.Join(s.node.dir, "restoring")
	_ = os.Remove(mark)
	if err := s.node.shim(marking); err != nil {
		return err
	}
	for end := time.Now().Add(time.Minute); ; {
		if _, err := os.Stat(mark); err == nil {
			break
		}
		if time.Now().After(end) {
			return errors.Join(errors.New("the proxy writes nothing, though Services change"), s.node.shim(""))
		}
		if err := wait.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	time.Sleep(s.upTo(15 * time.Millisecond))
	s.node.proxy.Stop(syscall.SIGKILL)
	if err := s.node.shim(""); err != nil {
		return err
	}
	return s.node.restart(ctx)
}

func paused(ctx context.Context, s *scene) error {
	s.node.proxy.Pause()
	return last(ctx, s.long(20*time.Second, 2*time.Second), func() error { s.node.proxy.Resume(); return nil })
}

func diskFull(ctx context.Context, s *scene) error {
	if err := os.Remove(s.node.lockFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	filler := filepath.Join(s.node.disk, "filler")
	if err := os.Mkdir(filler, 0o700); err != nil {
		return err
	}
	for full := false; !full; { // each file takes an inode, and what is left of the blocks
		f, err := os.CreateTemp(filler, "")
		if full = err != nil; full {
			continue
		}
		for err == nil {
			_, err = f.Write(make([]byte, 1<<16))
		}
		_ = f.Close()
	}
	return last(ctx, s.long(10*time.Second, 2*time.Second), func() error { return os.RemoveAll(filler) })
}
