package kernel

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// What the real commands of iptables 1.8.9 say, and whether that is about the input.
func TestRefusalsAreToldFromBadTimes(t *testing.T) {
	for _, test := range []struct {
		exit    int
		stderr  string
		refused bool
		lines   []string // of the input below
	}{
		{4, "iptables-nft-restore v1.8.9 (nf_tables): \nline 4: RULE_APPEND failed (No such file or directory): rule in chain KUBE-A\nline 5: RULE_APPEND failed (No such file or directory): rule in chain KUBE-A\n", true, []string{"four", "five"}},
		{4, "Warning: Extension ipvs revision 0 not supported, missing kernel module?\niptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (No such file or directory): rule in chain KUBE-A\n", true, []string{"three"}},
		{4, "iptables-nft-restore v1.8.9 (nf_tables): \nline 4: CHAIN_DEL failed (Device or resource busy): chain KUBE-A\n", true, []string{"four"}},
		{2, "iptables-nft-restore v1.8.9 (nf_tables): Chain 'KUBE-MISSING' does not exist\nError occurred at line: 6\nTry `iptables-nft-restore -h' or 'iptables-nft-restore --help' for more information.\n", true, []string{"COMMIT"}},
		{2, "iptables-restore v1.8.9 (legacy): Couldn't load match `foo':No such file or directory\n\nError occurred at line: 4\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.\n", true, []string{"four"}},
		{1, "iptables-restore: line 6 failed\n", true, []string{"COMMIT"}},
		{1, "iptables-restore: line 6 failed: No chain/target/match by that name.\n", true, []string{"COMMIT"}},
		{4, "Another app is currently holding the xtables lock. Stopped waiting after 5s.\n", false, nil},
		{4, "Can't lock /run/xtables.lock: Resource temporarily unavailable\nAnother app is currently holding the xtables lock. Stopped waiting after 1s.\n", false, nil},
		{4, "Fatal: can't open lock file /run/xtables.lock: Read-only file system\n", false, nil},
		{4, "Fatal: can't open lock file /run/xtables.lock: No space left on device\n", false, nil},
		{4, "iptables-nft-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n", false, nil},
		{2, "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'\n\nError occurred at line: 1\n", false, []string{"*nat"}},
		{3, "iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist (do you need to insmod?)\n", false, nil},
		{4, "iptables-nft-restore v1.8.9 (nf_tables): \nline 4: RULE_APPEND failed (Cannot allocate memory): rule in chain KUBE-A\n", false, []string{"four"}},
		{1, "iptables-restore: line 6 failed: Memory allocation problem.\n", false, []string{"COMMIT"}},
		{4, "iptables-restore: line 6 failed: Resource temporarily unavailable.\n", false, []string{"COMMIT"}},
		{4, "iptables-nft-restore v1.8.9 (nf_tables): \nline 6: TABLE_UPDATE failed (No buffer space available): table nat\n", false, []string{"COMMIT"}},
	} {
		e := newRestoreError(rules.IPv4, rules.Nat, test.exit, []byte("*nat\ntwo\nthree\nfour\nfive\nCOMMIT\n"), []byte(test.stderr))
		if e.Refused() != test.refused || !slices.Equal(e.Lines(), test.lines) {
			t.Errorf("%s\nis a refusal: %v, of lines %q; want %v, %q", test.stderr, e.Refused(), e.Lines(), test.refused, test.lines)
		}
	}
}

// A message with a line for each of thousands of rules does not fill the log.
func TestLongMessagesAreCut(t *testing.T) {
	stderr := strings.Repeat("line 4: RULE_APPEND failed (No such file or directory): rule in chain KUBE-A\n", 1000)
	e := newRestoreError(rules.IPv4, rules.Nat, 4, []byte("*nat\ntwo\nthree\nfour\n"), []byte(stderr))
	if len(e.Lines()) != 1000 || len(e.Error()) > 1000 {
		t.Errorf("%d lines, a message of %d bytes", len(e.Lines()), len(e.Error()))
	}
}

func TestALockThatIsHeldIsNoRefusal(t *testing.T) {
	kerneltest.Enter(t)
	k := tablesOf(t, NewHost(Legacy), rules.IPv4)
	holdLock(t)
	err := k.Apply(context.Background(), rules.NewPlan(&rules.Ruleset{}, want(k), 0))
	var failed *RestoreError
	if !errors.As(err, &failed) || failed.Refused() {
		t.Errorf("got %v, want an error that is no refusal", err)
	}
}

// holdLock holds the xtables lock until the test ends.
func holdLock(t *testing.T) {
	t.Helper()
	lock, err := os.OpenFile(os.Getenv("XTABLES_LOCKFILE"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close() })
	if err := syscall.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

// Tables that somebody holds the lock of are neither unusable nor clean.
func TestTablesUnderALockAreNotGivenUp(t *testing.T) {
	kerneltest.Enter(t)
	kerneltest.Run(t, "*nat\n:KUBE-SVC-OURS - [0:0]\nCOMMIT\n", "ip6tables-legacy-restore", "--noflush")
	k := tablesOf(t, NewHost(Legacy), rules.IPv6)
	holdLock(t)
	if err := k.Probe(context.Background()); !errors.Is(err, ErrUndecided) {
		t.Errorf("probed: %v, want %v", err, ErrUndecided)
	}
	if err := Cleanup(context.Background(), []rules.Family{rules.IPv6}); !errors.Is(err, ErrUndecided) {
		t.Errorf("cleaned up: %v, want %v", err, ErrUndecided)
	}
}

// Where the tables may not be looked at, nobody knows that they are clean.
func TestCleanupWithoutRightsIsAnError(t *testing.T) {
	kerneltest.Enter(t)
	kerneltest.Run(t, "*nat\n:KUBE-SVC-OURS - [0:0]\nCOMMIT\n", "iptables-legacy-restore", "--noflush")
	drop(t, unix.CAP_NET_RAW)
	if err := Cleanup(context.Background(), []rules.Family{rules.IPv4}); !errors.Is(err, ErrNotPermitted) {
		t.Errorf("cleaned up: %v, want %v", err, ErrNotPermitted)
	}
}

// drop takes a capability from the test's thread, and from what it runs.
func drop(t *testing.T, capability uint) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	sets[0].Effective &^= 1 << capability
	sets[0].Permitted &^= 1 << capability
	sets[0].Inheritable &^= 1 << capability
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Capset(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
}

func TestACommandThatIsKilledIsNoRefusal(t *testing.T) {
	kerneltest.Enter(t)
	k := tablesOf(t, NewHost(NFT), rules.IPv4)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var failed *RestoreError
	if err := k.Apply(ctx, rules.NewPlan(&rules.Ruleset{}, want(k), 0)); err == nil || errors.As(err, &failed) {
		t.Errorf("got %v, want an error that is no RestoreError", err)
	}
}
