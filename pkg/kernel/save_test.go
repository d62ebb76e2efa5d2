package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
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

// Tables that others have made with nft are named, if packets come by their chains.
func TestOtherTables(t *testing.T) {
	for _, f := range rules.Families() {
		t.Run(f.String(), func(t *testing.T) {
			kerneltest.Enter(t)
			kerneltest.Run(t, "", commandName(f)+"-nft", "-A", "OUTPUT", "-j", "RETURN")
			if names, err := OtherTables(f); err != nil || len(names) > 0 {
				t.Errorf("with iptables alone: %v, %v", names, err)
			}
			kerneltest.Run(t, "table inet walls { chain in { type filter hook input priority 0; }; chain out { type filter hook output priority 0; }; }\n"+
				"table ip office { chain in { type filter hook input priority 0; }; }\n"+
				"table ip6 office { chain in { type filter hook input priority 0; }; }\n"+
				"table inet unused { chain in { }; }\n", "nft", "-f", "-")
			own := "ip office"
			if f == rules.IPv6 {
				own = "ip6 office"
			}
			if names, err := OtherTables(f); err != nil || !slices.Equal(names, []string{"inet walls", own}) {
				t.Errorf("got %v, %v; want inet walls and %s", names, err, own)
			}
		})
	}
}

// A backend that cannot be read does not hide the other's rules.
func TestSaveAllOfOneBackendThatFails(t *testing.T) {
	kerneltest.Enter(t)
	dir := t.TempDir()
	script := "#!/bin/sh\necho 'iptables-save: Failed to initialize nft: Protocol not supported' >&2\nexit 1\n"
	for _, name := range []string{"iptables-nft", "iptables-nft-save"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	saved, err := SaveAll(context.Background(), Auto, rules.IPv4)
	if err != nil || len(saved) != 2 || saved[0].Err == nil || saved[1].Err != nil {
		t.Errorf("%+v, %v", saved, err)
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
