package kernel

import (
	"context"
	"slices"
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// damage is what others may do to our rules.
type damage struct {
	what    string
	command []string
	drift   string // tables and kinds; empty: nothing that has to be set right
}

func damages(k *Tables) []damage {
	ipt := k.tools.command
	shell := func(script string) []string { return []string{"sh", "-ec", script} }
	const firewall = " FORWARD -m conntrack --ctstate NEW -m comment --comment 'kubernetes load balancer firewall' -j KUBE-PROXY-FIREWALL"
	const otherwise = " FORWARD -m comment --comment 'kubernetes load balancer firewall' -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL"
	all := []damage{
		{"flush of nat", []string{ipt, "-t", "nat", "-F"}, "nat chain_changed, nat jump_missing"},
		{"flush of filter", []string{ipt, "-F"}, "filter chain_changed, filter jump_missing"},
		{"flush of a chain", []string{ipt, "-t", "nat", "-F", "KUBE-SERVICES"}, "nat chain_changed"},
		{"a rule deleted", []string{ipt, "-t", "nat", "-D", "KUBE-POSTROUTING", "1"}, "nat chain_changed"},
		{"a rule inserted", []string{ipt, "-I", "KUBE-FORWARD", "-j", "DROP"}, "filter chain_changed"},
		{"a rule replaced", []string{ipt, "-R", "KUBE-FORWARD", "1", "-m", "conntrack", "--ctstate", "INVALID", "-j", "ACCEPT"}, "filter chain_changed"},
		{"rules in another order", shell(ipt + " -t nat -D KUBE-POSTROUTING 1; " + ipt + " -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN"), "nat chain_changed"},
		{"a jump deleted", []string{ipt, "-t", "nat", "-D", "PREROUTING", "1"}, "nat jump_missing"},
		{"a DROP before the jumps", []string{ipt, "-I", "FORWARD", "-j", "DROP"}, "filter jump_behind"},
		{"a REJECT with a comment before the jumps", []string{ipt, "-I", "INPUT", "-m", "comment", "--comment", "closed", "-j", "REJECT"}, "filter jump_behind"},
		{"a jump moved behind an ACCEPT", shell(ipt + " -A FORWARD -j ACCEPT; " + ipt + " -D" + firewall + "; " + ipt + " -A" + firewall), "filter jump_behind"},
		{"a jump moved so, its matches in another order", shell(ipt + " -A FORWARD -j ACCEPT; " + ipt + " -D" + firewall + "; " + ipt + " -A" + otherwise), "filter jump_behind"},
		{"a rule of an administrator before the jumps", []string{ipt, "-I", "FORWARD", "-p", "tcp", "--dport", "22", "-j", "ACCEPT"}, ""},
		{"a jump twice", shell(ipt + " -I" + firewall + "; " + ipt + " -I" + otherwise), ""},
		{"a chain of our name", []string{ipt, "-t", "nat", "-N", "KUBE-SVC-NOBODYS"}, "nat chain_stale"},
		{"a policy, and a chain of others", shell(ipt + " -P FORWARD DROP; " + ipt + " -N MINE; " + ipt + " -I INPUT -p udp -j MINE"), ""},
		{"a whole table by restore", shell("printf '*nat\\n:MINE - [0:0]\\n-A PREROUTING -p tcp -j MINE\\nCOMMIT\\n' | " + k.tools.restore), "nat chain_missing, nat jump_missing"},
		{"all chains of a table", shell(ipt + " -F; " + ipt + " -X"), "filter chain_missing, filter jump_missing"},
	}
	if !k.nft() {
		return all
	}
	family := map[rules.Family]string{rules.IPv4: "ip", rules.IPv6: "ip6"}[k.family]
	nft := func(args ...string) []string { return append([]string{"nft"}, args...) }
	return append(all,
		damage{"nft: a table deleted", nft("delete", "table", family, "nat"), "nat chain_missing, nat jump_missing"},
		damage{"nft: a chain flushed", nft("flush", "chain", family, "nat", "KUBE-SERVICES"), "nat chain_changed"},
		damage{"nft: a rule that iptables can show", nft("insert", "rule", family, "nat", "KUBE-SERVICES", "tcp dport 80 accept"), "nat chain_changed"},
		damage{"nft: a rule that iptables leaves out", nft("insert", "rule", family, "nat", "KUBE-SERVICES", "ct state new accept"), "nat table_unreadable"},
		damage{"nft: a rule that iptables fails at", nft("insert", "rule", family, "nat", "KUBE-SERVICES", "meta cpu 1 accept"), "nat table_unreadable"},
		damage{"nft: everything", nft("flush", "ruleset"), "filter chain_missing, filter jump_missing, nat chain_missing, nat jump_missing"})
}

// others is what iptables-save prints of others, with the counters of their rules.
func others(t *testing.T, k *Tables) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(kerneltest.Run(t, "", k.tools.save, "-c")) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, "KUBE-") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// rulesOf leaves out chains and tables.
func rulesOf(saved string) string {
	var out strings.Builder
	for line := range strings.Lines(saved) {
		if strings.HasPrefix(line, "[") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// foreignRules are in every table, with counters; ip6tables-nft-restore 1.8.9 leaves
// these at zero.
func foreignRules(t *testing.T, k *Tables) {
	t.Helper()
	kerneltest.Run(t, `*mangle
:CNI-M - [0:0]
[7:70] -A CNI-M -j ACCEPT
COMMIT
*nat
:DOCKER - [0:0]
[5:300] -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
[3:33] -A DOCKER -p tcp --dport 99 -j RETURN
COMMIT
*filter
:DOCKER - [0:0]
[2:22] -A FORWARD -o docker0 -j DOCKER
[1:11] -A DOCKER -m limit --limit 7/min -j DROP
COMMIT
`, k.tools.restore, "--noflush", "--counters")
}

func TestDamageIsHealedAndNothingElseTouched(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		foreignRules(t, k)
		w := want(k)
		for _, d := range damages(k) {
			apply(t, k, rules.NewPlan(read(t, k), w, 5))
			left := others(t, k)
			kerneltest.Run(t, "", d.command[0], d.command[1:]...)
			if !strings.Contains(d.drift, "unreadable") {
				left = others(t, k) // what the damage left of theirs
			}
			have, err := k.Read(context.Background(), w)
			if err != nil {
				t.Fatal(err)
			}
			if got := kinds(rules.FindDrift(have, w)); got != d.drift {
				t.Errorf("%s: drift %q, want %q", d.what, got, d.drift)
			}
			plan := rules.NewPlan(have, w, 5)
			if plan.Empty() != (d.drift == "") {
				t.Errorf("%s: the plan is empty: %v", d.what, plan.Empty())
			}
			apply(t, k, plan)
			if got := lookOnce(t, k); got.Seen {
				t.Errorf("%s: what healed it looks like somebody else's: %+v", d.what, got)
			}
			if drift := rules.FindDrift(read(t, k), w); len(drift) > 0 {
				t.Errorf("%s: healed, and yet %+v", d.what, drift)
			}
			now := others(t, k)
			if strings.HasPrefix(d.what, "nft: ") { // a table may have to be made, with its built-in chains
				now, left = rulesOf(now), rulesOf(left)
			}
			if now != left {
				t.Errorf("%s: others' rules after it was healed:\n%s\nbefore:\n%s", d.what, now, left)
			}
		}
	})
}

// kinds lists tables and kinds, each once.
func kinds(drift []rules.Drift) string {
	var out []string
	for _, d := range drift {
		out = append(out, string(d.Table)+" "+string(d.Kind))
	}
	return strings.Join(slices.Compact(out), ", ")
}

// A jump that was taken away comes to stand where it was, so that the others keep
// their places, and those of an administrator theirs.
func TestJumpsComeBackInTheirOrder(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		w := want(k)
		apply(t, k, rules.NewPlan(read(t, k), w, 0))
		kerneltest.Run(t, "", k.tools.command, "-I", "FORWARD", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
		before := kerneltest.Run(t, "", k.tools.command, "-S", "FORWARD")
		for _, gone := range [][]string{{"2"}, {"3"}, {"4"}, {"5"}, {"4", "3"}, {"5", "2"}, {"5", "4", "3", "2"}} {
			for _, n := range gone {
				kerneltest.Run(t, "", k.tools.command, "-D", "FORWARD", n)
			}
			apply(t, k, rules.NewPlan(read(t, k), w, 0))
			after := kerneltest.Run(t, "", k.tools.command, "-S", "FORWARD")
			if slices.Contains(gone, "2") { // the first goes to the head of the chain
				kerneltest.Run(t, "", k.tools.command, "-D", "FORWARD", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
				kerneltest.Run(t, "", k.tools.command, "-I", "FORWARD", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
				after = kerneltest.Run(t, "", k.tools.command, "-S", "FORWARD")
			}
			if after != before {
				t.Errorf("rules %v taken away, then\n%s\nbefore:\n%s", gone, after, before)
			}
		}
	})
}

// A chain that is not needed any more, and that a rule of others leads to, cannot
// be removed. It is emptied, and the rest goes on; it goes when they let it.
func TestAStaleChainThatOthersLeadToIsEmptied(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		all, none := want(k), wantNothing(k)
		apply(t, k, rules.NewPlan(read(t, k), all, 0))
		var stale string
		for _, c := range all.Table(rules.Nat).Chains {
			if strings.HasPrefix(c.Name, "KUBE-SEP-") {
				stale = c.Name
			}
		}
		kerneltest.Run(t, "", k.tools.command, "-t", "nat", "-N", "MINE")
		kerneltest.Run(t, "", k.tools.command, "-t", "nat", "-A", "MINE", "-p", "tcp", "-j", stale)
		for _, maxChains := range []int{0, 2} {
			apply(t, k, rules.NewPlan(read(t, k), all, 0))
			have := read(t, k)
			apply(t, k, rules.NewPlan(have, none, maxChains))
			want := []rules.Reference{{Table: rules.Nat, Chain: stale, From: "MINE"}}
			if got := rules.HeldStale(have, none); !slices.Equal(got, want) {
				t.Errorf("held are %v, want %v", got, want)
			}
			if out := kerneltest.Run(t, "", k.tools.command, "-t", "nat", "-S", stale); strings.Count(out, "\n") != 1 {
				t.Errorf("the chain that was stale has\n%s", out)
			}
			if left := rules.NewPlan(read(t, k), none, maxChains); !left.Empty() {
				t.Errorf("there is always something left to do:\n%s", rules.RenderPlan(left))
			}
		}
		kerneltest.Run(t, "", k.tools.command, "-t", "nat", "-F", "MINE")
		apply(t, k, rules.NewPlan(read(t, k), none, 0))
		if chains := chainsOf(read(t, k)); strings.Contains(chains, stale) {
			t.Errorf("nobody leads to it any more, and it stays: %s", chains)
		}
	})
}
