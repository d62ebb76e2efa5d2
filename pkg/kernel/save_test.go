package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// What is saved is all of both backends, whoever wrote it, with counters.
func TestSaveAllHasBothBackends(t *testing.T) {
	for _, f := range rules.Families() {
		t.Run(f.String(), func(t *testing.T) {
			kerneltest.Enter(t)
			for _, b := range []Backend{NFT, Legacy} {
				kerneltest.Run(t, "", commandName(f)+"-"+string(b), "-t", "mangle", "-A", "FORWARD", "-m", "comment", "--comment", "by "+string(b), "-j", "DROP")
			}
			saved, err := SaveAll(context.Background(), Auto, f)
			if err != nil || len(saved) != 2 {
				t.Fatalf("%d backends, %v", len(saved), err)
			}
			for _, s := range saved {
				save, err := rules.ReadSave(string(s.Text), f)
				if err != nil {
					t.Fatal(err)
				}
				c, err := save.Chain("mangle", "FORWARD")
				if err != nil || c == nil || len(c.Rules) != 1 || len(c.Counters) != 1 || c.Rules[0].Comment != "by "+string(s.Backend) {
					t.Errorf("%s: %+v, %v", s.Backend, c, err)
				}
			}
			if one, err := SaveAll(context.Background(), Legacy, f); err != nil || len(one) != 1 || one[0].Backend != Legacy {
				t.Errorf("legacy alone: %d, %v", len(one), err)
			}
		})
	}
}

// A table that cannot be shown is named; the others are saved.
func TestSaveNamesTablesThatCannotBeRead(t *testing.T) {
	stub := func(_ context.Context, _ []byte, _ string, args ...string) ([]byte, []byte, int, error) {
		switch strings.Join(args, " ") {
		case "-c", "-c -t nat":
			return nil, []byte("unsupported"), notUnderstood, nil
		case "-c -t filter":
			return []byte("*filter\n:OUTPUT ACCEPT [0:0]\n[1:60] -A OUTPUT -j RETURN\nCOMMIT\n"), nil, 0, nil
		}
		return nil, nil, 0, nil
	}
	text, err := (&Tables{family: rules.IPv4, run: stub}).Save(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	save, err := rules.ReadSave(string(text), rules.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	c, err := save.Chain(rules.Filter, "OUTPUT")
	if len(save.Unreadable) != 1 || save.Unreadable[0] != rules.Nat || err != nil || c == nil || len(c.Rules) != 1 {
		t.Errorf("unreadable %v, filter OUTPUT %+v, %v\n%s", save.Unreadable, c, err, text)
	}
}

// Why nothing can be read is told apart.
func TestSaveSaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := SaveAll(context.Background(), Auto, rules.IPv4); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("without commands: %v", err)
	}
	dir := t.TempDir()
	for name, script := range map[string]string{
		"iptables-nft":      "#!/bin/sh\n",
		"iptables-nft-save": "#!/bin/sh\necho 'iptables-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)' >&2\nexit 4\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	if _, err := SaveAll(context.Background(), Auto, rules.IPv4); !errors.Is(err, ErrNotPermitted) || !strings.Contains(err.Error(), "iptables-nft-save") {
		t.Errorf("without rights: %v", err)
	}
}
