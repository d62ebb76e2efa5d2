package kernel

import (
	"context"
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

func TestProbesFindWhatTheKernelLacks(t *testing.T) {
	onEachLacking(t, func(t *testing.T, k *Tables, l *kerneltest.Lacking) {
		w := want(k)
		if err := k.Apply(context.Background(), rules.NewPlan(read(t, k), w, 0)); err != nil {
			t.Fatal(err)
		}
		l.Calls()
		missing := func() rules.Features {
			t.Helper()
			got, err := k.Missing(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if left := rules.NewPlan(read(t, k), w, 0); !left.Empty() {
				t.Errorf("the probe left something:\n%s", rules.RenderPlan(left))
			}
			return got
		}
		got := missing()
		if restores, _ := l.Calls(); got != 0 || restores != 2 {
			t.Errorf("missing: %+v, found out by %d restores; want nothing, by two", got.Infos(), restores)
		}
		for feature, pattern := range kerneltest.Features() {
			l.Refuse(pattern)
			if got := missing(); got != feature {
				t.Errorf("%s refused: missing %+v", pattern, got.Infos())
			}
		}
		l.Refuse(".")
		if got, want := missing(), rules.Features(1<<len(kerneltest.Features())-1); got != want {
			t.Errorf("all refused: missing %+v", got.Infos())
		}
	})
}

func onEachLacking(t *testing.T, test func(t *testing.T, k *Tables, l *kerneltest.Lacking)) {
	t.Helper()
	for _, b := range []Backend{NFT, Legacy} {
		for _, f := range rules.Families() {
			t.Run(string(b)+"/"+f.String(), func(t *testing.T) {
				kerneltest.Enter(t)
				l := kerneltest.NewLacking(t)
				test(t, tablesOf(t, NewHost(b), f), l)
			})
		}
	}
}

// A table that takes nothing lacks no features: it cannot be used.
func TestATableThatCannotBeUsedIsAnError(t *testing.T) {
	k := &Tables{family: rules.IPv4, run: func(context.Context, []byte, string, ...string) ([]byte, []byte, int, error) {
		return nil, []byte("iptables-restore: line 2 failed\n"), 1, nil
	}}
	p := prober{Tables: k}
	if missing, err := p.missing(context.Background()); err == nil {
		t.Errorf("missing: %+v", missing.Infos())
	}
}

// A kill in the middle of a probe may leave its chain behind. The next sync removes
// it, and so does a cleanup.
func TestWhatAKilledProbeLeftIsRemoved(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		w := want(k)
		if err := k.Apply(context.Background(), rules.NewPlan(read(t, k), w, 0)); err != nil {
			t.Fatal(err)
		}
		leave := func() {
			for _, table := range rules.Tables() {
				tx := rules.Transaction{Table: table, Write: []*rules.Chain{{Name: rules.ProbeChain, Rules: []rules.Rule{rules.Probes(k.family, table)[0].Rule}}}}
				if err := k.restore(context.Background(), &tx); err != nil {
					t.Fatal(err)
				}
			}
		}
		there := func() int {
			n := 0
			for _, table := range rules.Tables() {
				n += strings.Count(kerneltest.Run(t, "", k.tools.save, "-t", string(table)), ":"+rules.ProbeChain)
			}
			return n
		}
		leave()
		if there() != 2 {
			t.Fatal("the chains that are to be removed are not there")
		}
		if err := k.Apply(context.Background(), rules.NewPlan(read(t, k), w, 0)); err != nil || there() != 0 {
			t.Errorf("after a sync %d chains are left: %v", there(), err)
		}
		leave()
		if err := k.cleanup(context.Background()); err != nil || there() != 0 {
			t.Errorf("after a cleanup %d chains are left: %v", there(), err)
		}
	})
}
