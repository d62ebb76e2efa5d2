package kernel

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// look asks for interference until it is seen, for as long as a blob may not be
// looked at and notifications may take.
func look(t *testing.T, k *Tables) Interference {
	t.Helper()
	end := time.Now().Add(idlePeriod + 2*time.Second)
	for {
		got := ask(t, k)
		if got.Seen || time.Now().After(end) {
			return got
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// lookOnce asks until all is known.
func lookOnce(t *testing.T, k *Tables) Interference {
	t.Helper()
	switch w := k.witness.(type) {
	case *blobs:
		w.looked = time.Time{}
	case *generations:
		ask(t, k)
		time.Sleep(20 * time.Millisecond) // until notifications have come
		ask(t, k)
	}
	return ask(t, k)
}

func ask(t *testing.T, k *Tables) Interference {
	t.Helper()
	got, err := k.Interference(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// synced writes what is wanted and reads it.
func synced(t *testing.T, k *Tables) {
	t.Helper()
	if err := k.Apply(context.Background(), rules.NewPlan(read(t, k), want(k), 5)); err != nil {
		t.Fatal(err)
	}
	read(t, k)
}

// tablesOf also closes the host at the end.
func tablesOf(t testing.TB, h *Host, f rules.Family) *Tables {
	t.Helper()
	t.Cleanup(h.Close)
	k, err := h.Tables(f)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *Tables) nft() bool { _, ok := k.witness.(*generations); return ok }

func TestOwnReadsAndWritesAreNoInterference(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		empty := read(t, k)
		if got := lookOnce(t, k); got.Seen || got.Unsure {
			t.Errorf("after a read: %+v", got)
		}
		all, none := want(k), wantNothing(k)
		for _, plan := range []*rules.Plan{rules.NewPlan(empty, all, 5), rules.NewPlan(all, none, 5), rules.NewPlan(none, all, 0)} {
			if err := k.Apply(context.Background(), plan); err != nil {
				t.Fatal(err)
			}
			if got := lookOnce(t, k); got.Seen || got.Unsure == k.nft() {
				t.Errorf("after a write: %+v", got)
			}
		}
		read(t, k)
		if got := lookOnce(t, k); got.Seen || got.Unsure {
			t.Errorf("after another read: %+v", got)
		}
	})
}

// Nor are those that the kernel refuses in the middle, and those that ask what it has.
func TestRefusalsAndProbesAreNoInterference(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		synced(t, k)
		good := rules.Transaction{Table: rules.Nat, Write: []*rules.Chain{{Name: "KUBE-SVC-ANOTHER"}}}
		bad := rules.Transaction{Table: rules.Nat, Delete: []string{"KUBE-SERVICES"}}
		if err := k.Apply(context.Background(), &rules.Plan{Family: k.family, Transactions: []rules.Transaction{good, bad, good}}); err == nil {
			t.Fatal("a chain that is led to was deleted")
		}
		if got := lookOnce(t, k); got.Seen {
			t.Errorf("after a refusal: %+v", got)
		}
		if _, err := k.Missing(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got := lookOnce(t, k); got.Seen {
			t.Errorf("after a probe: %+v", got)
		}
	})
}

func TestDamageIsSeen(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		for _, d := range damages(k) {
			synced(t, k)
			kerneltest.Run(t, "", d.command[0], d.command[1:]...)
			got := look(t, k)
			if !got.Seen {
				t.Errorf("%s: not seen", d.what)
			}
			// The kernel keeps 15 characters of a name; a shell only starts the command.
			if name := fmt.Sprintf("%.15s (pid ", filepath.Base(d.command[0])); k.nft() && d.command[0] != "sh" &&
				(len(got.By) != 1 || !strings.HasPrefix(got.By[0], name)) {
				t.Errorf("%s: by %q, want %s", d.what, got.By, name)
			}
			if got = look(t, k); !got.Seen {
				t.Errorf("%s: forgotten before it was read", d.what)
			}
		}
	})
}

// On nft the kernel says what was changed; on legacy only that something was.
func TestWhatOthersDoToTheirOwnIsToldApart(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		ipt := k.tools.command
		for _, command := range []string{
			ipt + " -t nat -N CNI-1", ipt + " -t nat -A CNI-1 -j KUBE-MARK-MASQ", ipt + " -t nat -F CNI-1",
			ipt + " -t mangle -A FORWARD -j ACCEPT", ipt + " -P FORWARD DROP",
		} {
			synced(t, k)
			kerneltest.Run(t, "", "sh", "-c", command)
			changed := !k.nft() && !strings.Contains(command, "mangle")
			if got := lookOnce(t, k); got.Seen != changed {
				t.Errorf("%s: %+v, want %v", command, got, changed)
			}
		}
	})
}

// On a host with two families one's writes are no interference with the other, and
// damage to one none either, where the backend can tell.
func TestFamiliesDoNotInterfere(t *testing.T) {
	for _, b := range []Backend{NFT, Legacy} {
		t.Run(string(b), func(t *testing.T) {
			kerneltest.Enter(t)
			host := NewHost(b)
			v4, v6 := tablesOf(t, host, rules.IPv4), tablesOf(t, host, rules.IPv6)
			synced(t, v6)
			synced(t, v4)
			kerneltest.Run(t, "", v4.tools.command, "-t", "nat", "-N", "CNI-1")
			kerneltest.Run(t, "", v4.tools.command, "-t", "nat", "-F", "KUBE-SERVICES")
			if got := lookOnce(t, v6); got.Seen {
				t.Errorf("IPv6 after writes to IPv4: %+v", got)
			}
			if err := v6.Apply(context.Background(), rules.NewPlan(want(v6), wantNothing(v6), 5)); err != nil {
				t.Fatal(err)
			}
			if got := lookOnce(t, v4); !got.Seen {
				t.Error("damage to IPv4 was forgotten with a write to IPv6")
			}
			synced(t, v4)
			if got := lookOnce(t, v6); got.Seen {
				t.Errorf("IPv6 after writes to both: %+v", got)
			}
		})
	}
}

func TestAWriteOfOthersDuringOursIsSeen(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		synced(t, k)
		run := k.run
		k.run = func(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, []byte, int, error) {
			kerneltest.Run(t, "", k.tools.command, "-t", "nat", "-F", "KUBE-POSTROUTING")
			return run(ctx, stdin, name, args...)
		}
		tx := rules.Transaction{Table: rules.Nat, Write: []*rules.Chain{{Name: "KUBE-SVC-ANOTHER"}}}
		if err := k.Apply(context.Background(), &rules.Plan{Family: k.family, Transactions: []rules.Transaction{tx}}); err != nil {
			t.Fatal(err)
		}
		if got := lookOnce(t, k); !got.Seen && !got.Unsure {
			t.Errorf("%+v", got)
		}
	})
}

// What others write just before us is not taken for ours.
func TestAWriteOfOthersBeforeOursIsSeen(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		synced(t, k)
		kerneltest.Run(t, "", k.tools.command, "-t", "nat", "-F", "KUBE-POSTROUTING")
		tx := rules.Transaction{Table: rules.Nat, Write: []*rules.Chain{{Name: "KUBE-SVC-ANOTHER"}}}
		if err := k.Apply(context.Background(), &rules.Plan{Family: k.family, Transactions: []rules.Transaction{tx}}); err != nil {
			t.Fatal(err)
		}
		if got := look(t, k); !got.Seen {
			t.Errorf("%+v", got)
		}
	})
}

// Nor is what others write while ours waits until they let go of the lock.
func TestAFlushDuringAWriteOfOursIsSeen(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		synced(t, k)
		for _, table := range rules.Tables() {
			have := read(t, k)
			more := &rules.Ruleset{Family: have.Family, Jumps: have.Jumps}
			for _, name := range rules.Tables() {
				chains := append([]*rules.Chain{{Name: "KUBE-AAA-" + strings.ToUpper(string(table))}}, have.Table(name).Chains...)
				more.Tables = append(more.Tables, rules.Table{Name: name, Chains: chains})
			}
			run := k.run
			k.run = func(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, []byte, int, error) {
				kerneltest.Run(t, "", k.tools.command, "-t", string(table), "-F", builtinChain(table))
				return run(ctx, stdin, name, args...)
			}
			err := k.Apply(context.Background(), rules.NewPlan(have, more, 0))
			if k.run = run; err != nil {
				t.Fatal(err)
			}
			if got := ask(t, k); !got.Seen {
				t.Errorf("table %s: %+v", table, got)
			}
		}
	})
}

func TestManyWritesOfOthersAreSeenAlthoughMessagesAreLost(t *testing.T) {
	kerneltest.Enter(t)
	k := tablesOf(t, NewHost(NFT), rules.IPv4)
	synced(t, k)
	var text strings.Builder
	text.WriteString("*nat\n:MANY - [0:0]\n")
	for range 20000 {
		text.WriteString("-A MANY -m comment --comment \"somebody else's\" -j RETURN\n")
	}
	text.WriteString("COMMIT\n")
	kerneltest.Run(t, text.String(), k.tools.restore, "--noflush")
	if got := ask(t, k); !got.Seen {
		t.Errorf("20,000 rules of others, more than there is room for their messages, at the first look: %+v", got)
	}
	read(t, k)
	kerneltest.Run(t, "", k.tools.command, "-t", "nat", "-N", "CNI-1")
	kerneltest.Run(t, "", k.tools.command, "-t", "nat", "-N", "CNI-2")
	if got := lookOnce(t, k); got.Seen {
		t.Errorf("after a loss and a read, chains of others: %+v", got)
	}
}

// Counters of packets are no change, and to look makes no table.
func TestToLookIsHarmless(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		if got := lookOnce(t, k); !k.nft() && got.Seen {
			t.Errorf("without tables: %+v", got)
		}
		if names := legacyTables(k.family); len(names) != 0 {
			t.Fatalf("a look made the tables %v", names)
		}
		synced(t, k)
		host := map[rules.Family]string{rules.IPv4: "127.0.0.1", rules.IPv6: "::1"}[k.family]
		conn, err := net.Dial("udp", net.JoinHostPort(host, "9"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		for range 5 {
			_, _ = conn.Write([]byte("counted"))
		}
		if got := lookOnce(t, k); got.Seen {
			t.Error("a packet looks like a write")
		}
	})
}

func TestWithoutNotificationsEveryWriteCounts(t *testing.T) {
	kerneltest.Enter(t)
	host := NewHost(NFT)
	k := tablesOf(t, host, rules.IPv4)
	synced(t, k)
	host.Close()
	kerneltest.Run(t, "", k.tools.command, "-t", "nat", "-N", "CNI-1")
	if got := look(t, k); !got.Seen || len(got.By) > 0 {
		t.Errorf("somebody wrote: %+v", got)
	}
}

// What a look costs with 10,000 Services, and on legacy to read the blobs.
func BenchmarkInterference(b *testing.B) {
	for _, backend := range []Backend{NFT, Legacy} {
		b.Run(string(backend), func(b *testing.B) {
			kerneltest.Enter(b)
			k := tablesOf(b, NewHost(backend), rules.IPv4)
			builder := rules.NewBuilder(rules.Config{Family: rules.IPv4, MasqueradeMark: 0x4000})
			plan := rules.NewPlan(&rules.Ruleset{Family: rules.IPv4}, builder.Build(cluster(manyServices)), 1000)
			if err := k.Apply(b.Context(), plan); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for b.Loop() {
				if _, err := k.Interference(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			if w, ok := k.witness.(*blobs); ok {
				b.ReportMetric(float64(w.cost.Microseconds()), "µs/blobs")
			}
		})
	}
}
