package rules

import (
	"testing"

	"pgregory.net/rapid"
)

func drawRule(t *rapid.T, f Family) Rule {
	opt := func(name string) bool { return rapid.Bool().Draw(t, name) }
	var r Rule
	var x Rare
	if opt("src") {
		r.Src = AddrMatch{podCIDR(f), opt("not src")}
	}
	if opt("dst") {
		r.Dst = AddrMatch{podCIDR(f), opt("not dst")}
	}
	if opt("in") {
		x.In = InterfaceMatch{"cali+", opt("not in")}
	}
	if opt("protocol") {
		r.Protocol = rapid.SampledFrom([]Protocol{TCP, UDP, SCTP}).Draw(t, "protocol name")
		if opt("port") {
			first := rapid.Uint16Range(1, 65535).Draw(t, "first")
			r.DstPort = PortRange{first, rapid.Uint16Range(first, 65535).Draw(t, "last")}
		}
	}
	if opt("comment") {
		r.Comment = rapid.StringMatching(`[ -~]{1,40}`).Draw(t, "comment text")
	}
	r.SrcLocal, r.DstLocal = opt("src local"), opt("dst local")
	if opt("state") {
		x.State = StateMatch{ConnState(rapid.IntRange(1, 127).Draw(t, "states")), opt("not state")}
	}
	if opt("mark") {
		x.Mark = MarkMatch{0x4000, rapid.SampledFrom([]uint32{0x4000, 0xffffffff}).Draw(t, "mask"), opt("not mark")}
	}
	if opt("statistic") {
		r.Statistic = Probability(rapid.IntRange(1, certain).Draw(t, "probability"))
	}
	switch rapid.IntRange(0, 2).Draw(t, "recent") {
	case 1:
		x.Recent = Recent{Op: RecentSet, List: "KUBE-SEP-A"}
	case 2:
		x.Recent = Recent{Op: RecentCheck, List: "KUBE-SEP-A", Seconds: 60, Reap: opt("reap")}
	}
	if opt("nfacct") {
		x.NFAcct = "counted"
	}
	r.Target = rapid.SampledFrom([]Target{
		{}, {Name: Accept}, {Name: Drop}, {Name: Return}, {Name: Reject},
		{Name: "KUBE-SVC-A"}, {Name: "KUBE-SVC-A", Goto: true},
		{Name: Masquerade}, {Name: MarkTarget},
		{Name: DNAT, ToDestination: clusterService(f, "x", 1, 5).Ports[0].Endpoints[0].Addr},
	}).Draw(t, "target")
	switch r.Target.Name {
	case Reject:
		x.RejectWith = rapid.SampledFrom([]string{"", "tcp-reset"}).Draw(t, "reject with")
	case Masquerade:
		x.RandomFully = opt("random fully")
	case MarkTarget:
		x.SetMark = MarkUpdate{0x4000, rapid.SampledFrom([]uint32{0x4000, 0}).Draw(t, "mask to clear")}
	}
	return r.With(x)
}

func TestParseIsTheInverseOfRender(t *testing.T) {
	eachFamily(t, func(t *testing.T, f Family) {
		rapid.Check(t, func(t *rapid.T) {
			r := drawRule(t, f)
			text := RenderTransaction(f, &Transaction{Table: Nat, Write: []*Chain{{Name: "C", Rules: []Rule{r}}}})
			tables, err := ParseSave(text, f)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if got := tables[0].Chains[0].Rules; len(got) != 1 || got[0] != r {
				t.Fatalf("%s\ngot  %+v\nwant %+v", text, got, r)
			}
		})
	})
}

func TestParseSaveErrors(t *testing.T) {
	for _, text := range []string{
		"-A OUTPUT -j DROP\n",
		"*\nCOMMIT\n",
		"*nat\n:OUTPUT\n",
		"*nat\n[1:2]\n",
		"*nat\n-A\n",
		"*nat\n-Z OUTPUT\n",
		"*nat\n-A OUTPUT -m comment --comment \"no end\n",
	} {
		if tables, err := ParseSave([]byte(text), IPv4); err == nil {
			t.Errorf("%q: got %+v, want an error", text, tables)
		}
	}
}
