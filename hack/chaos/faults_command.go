package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// commandFaults are those of iptables-restore.
func commandFaults() []*fault {
	return []*fault{
		{name: "locked", stuck: true, make: locked,
			how: "another process holds the xtables lock for 12 seconds; iptables-nft knows no such lock"},
		{name: "restore-fails", stuck: true, make: restoreIs(failing, 10*time.Second),
			how: "for 10 seconds iptables-restore does nothing and exits with 4: resource temporarily unavailable"},
		{name: "restore-refuses", stuck: true, make: restoreIs(refusing, 10*time.Second),
			how: "for 10 seconds iptables-restore does nothing and exits with 1, as if the kernel refused any rule: line 2 failed"},
		{name: "restore-killed", stuck: true, make: restoreIs(dying, 10*time.Second),
			how: "for 10 seconds iptables-restore reads 100 bytes and is killed"},
		{name: "restore-hangs", stuck: true, make: restoreIs(hanging, 5*time.Second),
			late: 30 * time.Second, because: "a command that hangs is given up after 30 seconds",
			how: "iptables-restore started within 5 seconds never ends"},
	}
}

// Scripts in the place of iptables-restore, with the real one and the node's folder.
const (
	failing = `#!/bin/sh
cat >/dev/null
echo "${0##*/}: Resource temporarily unavailable" >&2
exit 4
`
	refusing = `#!/bin/sh
cat >/dev/null
echo "${0##*/}: line 2 failed" >&2
exit 1
`
	dying = `#!/bin/sh
head -c 100 >/dev/null
kill -9 $$
`
	hanging = `#!/bin/sh
exec sleep infinity
`
)

// shim puts a script in the place of iptables-restore, for both families; empty: the
// real one is to be there again.
func (n *node) shim(script string) error {
	return n.tools.Shim(func(name, real string) string {
		if script == "" || !strings.HasSuffix(name, "-restore") {
			return ""
		}
		return fmt.Sprintf(script+"# %[1]s %[2]s\n", real, n.dir)
	})
}

// restoreIs has a script stand in for iptables-restore for a while.
func restoreIs(script string, full time.Duration) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		if err := s.node.shim(script); err != nil {
			return err
		}
		return last(ctx, s.long(full, 2*time.Second), func() error { return s.node.shim("") })
	}
}

func locked(ctx context.Context, s *scene) error {
	f, err := os.OpenFile(s.node.lockFile(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("take the xtables lock: %w", err)
	}
	return last(ctx, s.long(12*time.Second, 6*time.Second), func() error { return nil })
}
