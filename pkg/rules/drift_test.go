package rules

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// damage takes away and adds rules, chains and jumps.
func damage(t *rapid.T, r *Ruleset) *Ruleset {
	out := &Ruleset{Family: r.Family}
	for _, table := range r.Tables {
		hurt := Table{Name: table.Name}
		for _, c := range table.Chains {
			switch rapid.SampledFrom([]string{"", "", "", "gone", "flushed", "rule gone", "rule added"}).Draw(t, c.Name) {
			case "gone":
				continue
			case "flushed":
				c = &Chain{Name: c.Name}
			case "rule gone":
				c = &Chain{Name: c.Name, Rules: c.Rules[min(1, len(c.Rules)):]}
			case "rule added":
				c = &Chain{Name: c.Name, Rules: slices.Concat([]Rule{Rule{}.to(Return)}, c.Rules)}
			}
			hurt.Chains = append(hurt.Chains, c)
		}
		if rapid.Bool().Draw(t, "stale") {
			tree := map[TableName]string{Filter: treeServices, Nat: treeByIP}[table.Name]
			stale := Chain{Name: tree + "STALE", Rules: []Rule{Rule{}.to(Return)}[:rapid.IntRange(0, 1).Draw(t, "rules")]}
			hurt.Chains = append(hurt.Chains, &stale)
			if rapid.Bool().Draw(t, "held") {
				out.Held = append(out.Held, Reference{table.Name, stale.Name, "MINE"})
			}
		}
		hurt.sort()
		out.Tables = append(out.Tables, hurt)
	}
	for i, j := range r.Jumps {
		j.Position = i + 1
		j.Dead = rapid.Bool().Draw(t, "dead")
		for range rapid.IntRange(0, 2).Draw(t, "copies") {
			out.Jumps = append(out.Jumps, j)
		}
	}
	return out
}

func TestDriftIsWhatAPlanSetsRight(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			want := Build(drawSnapshot(t, f, "services"), testConfig(f))
			have := damage(t, want)
			drift, plan := FindDrift(have, want), NewPlan(have, want, 0)
			if (len(drift) == 0) != plan.Empty() {
				t.Fatalf("drift %+v, but the plan is\n%s", drift, RenderPlan(plan))
			}
			for i := range plan.Transactions {
				have = apply(t, have, &plan.Transactions[i])
			}
			chains := func(d Drift) bool { return d.Kind != JumpMissing && d.Kind != JumpBehind }
			if left := FindDrift(have, want); slices.ContainsFunc(left, chains) {
				t.Fatalf("left after the plan: %+v", left)
			}
		})
	})
}

func TestDriftSaysWhatIsWrong(t *testing.T) {
	a, b := Rule{}.to(Accept), Rule{Protocol: TCP}.to(Return)
	jump := Jump{Table: Filter, Chain: "INPUT", Rule: Rule{}.to(chainServices)}
	at := func(j Jump, dead bool) Jump { j.Position, j.Dead = 1, dead; return j }
	ruleset := func(jumps []Jump, chains ...*Chain) *Ruleset {
		return &Ruleset{Tables: []Table{{Filter, chains}}, Jumps: jumps}
	}
	services := func(rules ...Rule) *Chain { return &Chain{Name: chainServices, Rules: rules} }
	want := ruleset([]Jump{jump}, services(a, b))
	live := []Jump{at(jump, false)}
	for name, c := range map[string]struct {
		have *Ruleset
		want []Drift
	}{
		"nothing":        {ruleset(live, services(a, b)), nil},
		"chain gone":     {ruleset(live), []Drift{{Filter, ChainMissing, chainServices, []Rule{a, b}, nil}}},
		"chain flushed":  {ruleset(live, services()), []Drift{{Filter, ChainChanged, chainServices, []Rule{a, b}, nil}}},
		"rule replaced":  {ruleset(live, services(a, a)), []Drift{{Filter, ChainChanged, chainServices, []Rule{b}, nil}}},
		"rule added":     {ruleset(live, services(a, Rule{}.to(Drop), b)), []Drift{{Filter, ChainChanged, chainServices, nil, []Rule{Rule{}.to(Drop)}}}},
		"other order":    {ruleset(live, services(b, a)), []Drift{{Filter, ChainChanged, chainServices, nil, nil}}},
		"stale":          {ruleset(live, services(a, b), &Chain{Name: treeServices + "X"}), []Drift{{Filter, ChainStale, treeServices + "X", nil, nil}}},
		"jump gone":      {ruleset(nil, services(a, b)), []Drift{{Filter, JumpMissing, "INPUT", []Rule{jump.Rule}, nil}}},
		"jump dead":      {ruleset([]Jump{at(jump, true)}, services(a, b)), []Drift{{Filter, JumpBehind, "INPUT", []Rule{jump.Rule}, nil}}},
		"also a live":    {ruleset([]Jump{at(jump, false), at(jump, true)}, services(a, b)), nil},
		"not to be read": {&Ruleset{Unreadable: []TableName{Filter}}, []Drift{{Filter, TableUnreadable, "", nil, nil}}},
		"of nobody":      {&Ruleset{Tables: []Table{{Filter, []*Chain{services(a, b)}}}, Jumps: append(live, Jump{Table: Nat, Chain: "OUTPUT", Rule: a})}, nil},
	} {
		got := FindDrift(c.have, want)
		if !slices.EqualFunc(got, c.want, func(a, b Drift) bool {
			return a.Table == b.Table && a.Kind == b.Kind && a.Chain == b.Chain && slices.Equal(a.Missing, b.Missing) && slices.Equal(a.Extra, b.Extra)
		}) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// Whichever jumps are missing, and whatever stands between them: those that come
// back take their places in the order of a fresh host, and nothing else moves.
func TestJumpsAreInsertedInTheirOrder(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			want := Build(snapshot(), testConfig(f)).Jumps
			fresh := map[string][]Rule{}
			for _, j := range want {
				key := string(j.Table) + " " + j.Chain
				fresh[key] = slices.Insert(fresh[key], 0, j.Rule)
			}
			foreign := Rule{Protocol: UDP}.to("MINE")
			chains := map[string][]Rule{}
			var have []Jump
			for _, table := range Tables() {
				for _, name := range []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"} {
					key := string(table) + " " + name
					for _, r := range fresh[key] {
						if rapid.Bool().Draw(t, "foreign") {
							chains[key] = append(chains[key], foreign)
						}
						if rapid.Bool().Draw(t, "there") {
							chains[key] = append(chains[key], r)
						}
					}
					have = append(have, jumpsIn(table, &Chain{Name: name, Rules: chains[key]})...)
				}
			}
			remove, insert := jumpChanges(have, want)
			if len(remove) > 0 {
				t.Fatalf("removed is %v", remove)
			}
			for _, j := range insert {
				key := string(j.Table) + " " + j.Chain
				chains[key] = slices.Insert(chains[key], j.Position-1, j.Rule)
			}
			for key, rules := range chains {
				ours := slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return r == foreign })
				if !slices.Equal(ours, fresh[key]) {
					t.Fatalf("%s is %v, on a fresh host it is %v", key, ours, fresh[key])
				}
			}
		})
	})
}

func TestOnlyWhatTakesEveryPacketKillsAJump(t *testing.T) {
	jump := "-m comment --comment x -j KUBE-SERVICES"
	for rule, dead := range map[string]bool{
		"-j DROP": true, "-j ACCEPT": true, "-j RETURN": true, "-j REJECT --reject-with tcp-reset": true, "-g MINE": true,
		"-m comment --comment \"all of it\" -j DROP": true, "-j MASQUERADE --random-fully": true,
		"-p tcp -j DROP": false, "-i eth0 -j DROP": false, "! -s 10.0.0.0/8 -j DROP": false, "-m conntrack --ctstate NEW -j DROP": false,
		"-m statistic --mode random --probability 0.5 -j DROP": false, "-m mark --mark 0x1 -j ACCEPT": false,
		"-j MINE": false, "-j LOG --log-prefix x": false, "-m owner --uid-owner 7 -j DROP": false, "-m comment --comment x": false,
	} {
		tables, err := ParseSave([]byte("*filter\n:FORWARD ACCEPT\n-A FORWARD "+rule+"\n-A FORWARD "+jump+"\nCOMMIT\n"), IPv4)
		if err != nil {
			t.Fatal(err)
		}
		jumps := Own(IPv4, tables).Jumps
		if len(jumps) != 1 || jumps[0].Dead != dead || jumps[0].Position != 2 {
			t.Errorf("behind %s: %+v, want dead %v at 2", rule, jumps, dead)
		}
	}
}

// A dead jump is removed before its like is inserted; one of which a live copy is
// there stays, since to remove it would remove the live one.
func TestDeadJumpsAreReplaced(t *testing.T) {
	text := func(lines string) *Ruleset {
		tables, err := ParseSave([]byte("*filter\n:INPUT ACCEPT\n"+lines+"COMMIT\n"), IPv4)
		if err != nil {
			t.Fatal(err)
		}
		return Own(IPv4, tables)
	}
	jump, drop := "-A INPUT -j KUBE-SERVICES\n", "-A INPUT -j DROP\n"
	want := &Ruleset{Jumps: text(jump).Jumps}
	want.Jumps[0].Position = 0
	for lines, counts := range map[string][2]int{
		jump: {0, 0}, drop + jump: {1, 1}, drop + jump + jump: {2, 1}, jump + drop + jump: {0, 0}, jump + jump: {0, 0}, drop: {0, 1}, "": {0, 1},
	} {
		plan := NewPlan(text(lines), want, 0)
		if got := [2]int{len(plan.Remove), len(plan.Jumps)}; got != counts {
			t.Errorf("of\n%s%v are removed and inserted, want %v", lines, got, counts)
		}
	}
}

// What is read line by line is what Own makes of the whole, and what is known
// already keeps its pointers.
func TestOwnReaderReadsWhatOwnDoes(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			known := Build(drawSnapshot(t, f, "known"), testConfig(f))
			now := damage(t, Build(drawSnapshot(t, f, "now"), testConfig(f)))
			text := "*mangle\n:CNI - [0:0]\n-A CNI \"\nCOMMIT\n# a comment\n"
			for _, table := range now.Tables {
				saved := string(RenderTransaction(f, &Transaction{Table: table.Name, Write: table.Chains}))
				text += strings.TrimSuffix(saved, "COMMIT\n") + "-A MINE -j KUBE-SERVICES\n-A MINE -j MINE2\nCOMMIT\n"
			}
			r := NewOwnReader(f, known)
			for line := range strings.SplitSeq(text, "\n") {
				if err := r.Line([]byte(line)); err != nil {
					t.Fatal(err)
				}
			}
			got := r.Ruleset()
			for _, name := range Tables() {
				if !slices.EqualFunc(got.Table(name).Chains, now.Table(name).Chains, func(a, b *Chain) bool { return a.Name == b.Name && slices.Equal(a.Rules, b.Rules) }) {
					t.Fatalf("read of\n%sis %+v", text, got.Table(name).Chains)
				}
			}
			if want := []Reference{{Filter, "KUBE-SERVICES", "MINE"}, {Nat, "KUBE-SERVICES", "MINE"}}; !slices.Equal(got.Held, want) {
				t.Fatalf("held is %v", got.Held)
			}
			for _, name := range Tables() {
				for _, c := range got.Table(name).Chains {
					k := known.Table(name).Chain(c.Name)
					if k != nil && slices.Equal(k.Rules, c.Rules) && k != c {
						t.Fatalf("%s is read as it is known and yet another one", c.Name)
					}
				}
			}
		})
	})
}

func TestOwnReaderErrors(t *testing.T) {
	for text, want := range map[string]string{
		"*nat\n-A A \"":       "line 2: chain A: ",
		"*mangle\nX\n*nat\nX": "line 4: neither chain nor rule",
	} {
		r := NewOwnReader(IPv4, nil)
		var err error
		for line := range strings.SplitSeq(text, "\n") {
			if err = r.Line([]byte(line)); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

func TestOwnReaderNotesTablesThatCannotBeRead(t *testing.T) {
	r := NewOwnReader(IPv4, nil)
	for _, line := range []string{
		"# Table `nat' is incompatible, use 'nft' tool.", "# Table `raw' is incompatible, use 'nft' tool.",
		"# Table `filter' contains incompatible base-chains, use 'nft' tool to list them.",
	} {
		if err := r.Line([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.Ruleset().Unreadable; !slices.Equal(got, []TableName{Nat}) {
		t.Errorf("unreadable are %v", got)
	}
}
