package rules_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/rules/rulestest"
)

// Whatever iptables-save prints, and whoever wrote the rules: what is read of it
// is written so that it reads the same again.
func FuzzParseSave(f *testing.F) {
	for _, text := range []string{
		"*nat\n:OUTPUT ACCEPT [0:0]\n[1:2] -A OUTPUT -d 10.0.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-A\nCOMMIT\n",
		"*filter\n-I INPUT ! -s ::1 -m statistic --mode random --probability 0.333 -j REJECT --reject-with x\nCOMMIT\n",
		"*nat\n-A C -m recent --rcheck --seconds 5 --reap --name N --mask 255.255.255.255 --rsource -m comment --comment \"a \\\" b\"\nCOMMIT\n",
		"*raw\n-A C ! ! ! -p\nCOMMIT\n",
		"*nat\n:A - [0:0]\n-A A -m owner --uid-owner 0 -m comment --comment \"x y\" -j MARK --set-mark 0x1/0xff\n:A - [0:0]\nCOMMIT\n",
		"# comment\n*filter\n:INPUT DROP [1:2]\n-A INPUT -i eth0 -m mark --mark 1 -m conntrack ! --ctstate NEW,rules.DNAT -g X\r\nCOMMIT\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, family := range rules.Families() {
			tables, err := rules.ParseSave(text, family)
			if err != nil {
				continue
			}
			again, err := rules.ParseSave(renderTables(family, tables), family)
			if err != nil {
				t.Fatalf("%s: %q was read, but what is written of it was not: %v\n%s", family, text, err, renderTables(family, tables))
			}
			if a, b := describeTables(tables), describeTables(again); a != b {
				t.Fatalf("%s: %q was read as\n%s\nand what is written of it as\n%s", family, text, a, b)
			}
		}
	})
}

// renderTables writes tables as if all their chains were ours.
func renderTables(f rules.Family, tables []rules.Table) []byte {
	var b []byte
	for _, t := range tables {
		b = append(b, rules.RenderTransaction(f, &rules.Transaction{Table: t.Name, Write: t.Chains})...)
	}
	return b
}

// describeTables is all that is in tables but for the policies, which are not ours
// to write.
func describeTables(tables []rules.Table) string {
	var b strings.Builder
	for _, t := range tables {
		for _, c := range t.Chains {
			fmt.Fprintf(&b, "%q %q\n", t.Name, c.Name)
			for i := range c.Rules {
				fmt.Fprintf(&b, "  %+v %+v\n", c.Rules[i], c.Rules[i].Rare())
			}
		}
	}
	return b.String()
}

// Whatever stands in the strings of a rule: it is one line and one rule, and reads
// as what was written, but for control characters, which become spaces.
func FuzzRender(f *testing.F) {
	f.Add("ns/web cluster IP", "eth0", "10.0.0.1", uint32(0x4000), uint16(80))
	f.Add("\"\\\n-A X\r\x00\t", "cali+", "fd00::1", uint32(0), uint16(0))
	f.Add("-j ACCEPT", "!", "::ffff:10.0.0.1", uint32(math.MaxUint32), uint16(65535))
	f.Fuzz(func(t *testing.T, comment, name, addr string, mark uint32, port uint16) {
		family := rules.IPv4
		a, err := netip.ParseAddr(addr)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			a = netip.AddrFrom4([4]byte{10, 0, 0, 1})
		}
		if a.Is6() {
			family = rules.IPv6
		}
		r := rules.Rule{
			Src: rules.AddrMatch{Prefix: netip.PrefixFrom(a, a.BitLen())}, Protocol: rules.TCP, DstPort: rules.Port(port), Comment: comment,
			Target: rules.Target{Name: rules.DNAT, ToDestination: netip.AddrPortFrom(a, port)},
		}
		x := rules.Rare{Mark: rules.MarkMatch{Value: mark, Mask: mark}, State: rules.StateMatch{States: rules.StateNew}, In: rules.InterfaceMatch{Name: name}, NFAcct: name}
		if name != "" {
			x.Recent = rules.Recent{Op: rules.RecentCheck, List: name, Seconds: mark}
		}
		checkRendered(t, family, r.With(x))
		r.Target = rules.Target{Name: rules.Reject}
		checkRendered(t, family, r.With(rules.Rare{RejectWith: name, In: x.In, Recent: x.Recent}))
	})
}

func checkRendered(t *testing.T, family rules.Family, r rules.Rule) {
	t.Helper()
	tx := rules.Transaction{Table: rules.Nat, Write: []*rules.Chain{{Name: "KUBE-X", Rules: []rules.Rule{r}}}, Jumps: []rules.Jump{{Table: rules.Nat, Chain: "OUTPUT", Rule: r}}}
	text := string(rules.RenderTransaction(family, &tx))
	lines := strings.Split(text, "\n")
	if len(lines) != 6 || !strings.HasPrefix(lines[2], "-I OUTPUT ") || !strings.HasPrefix(lines[3], "-A KUBE-X ") {
		t.Fatalf("not one line for each rule:\n%q", text)
	}
	tables, err := rules.ParseSave([]byte(text), family)
	if err != nil {
		t.Fatalf("%v\n%q", err, text)
	}
	r = readable(r, family)
	for _, c := range tables[0].Chains {
		if len(c.Rules) != 1 || c.Rules[0] != r {
			t.Fatalf("%s: read as %+v\nwant %+v\n%q", c.Name, c.Rules, r, text)
		}
	}
	args := r.Args(family)
	if want := rulestest.Words(strings.TrimPrefix(lines[2], "-I OUTPUT ")); !slices.Equal(args, want) {
		t.Fatalf("as arguments %q, as a line %q", args, want)
	}
	for _, a := range args {
		if a != withoutControls(a) {
			t.Fatalf("%q holds a control character", a)
		}
	}
}

// readable is what is read of a rule.
func readable(r rules.Rule, f rules.Family) rules.Rule {
	r.Comment = withoutControls(r.Comment)
	x := r.Rare()
	x.In.Name, x.NFAcct, x.Recent.List = withoutControls(x.In.Name), withoutControls(x.NFAcct), withoutControls(x.Recent.List)
	byDefault := map[rules.Family]string{rules.IPv4: "icmp-port-unreachable", rules.IPv6: "icmp6-port-unreachable"}
	if x.RejectWith = withoutControls(x.RejectWith); x.RejectWith == byDefault[f] {
		x.RejectWith = ""
	}
	return r.With(x)
}

func withoutControls(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}
