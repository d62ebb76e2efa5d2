package kernel

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// Counters are those that iptables shows, of jumps and gotos in their order; other
// rules, and other tables, do not matter.
func TestJumpCounts(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		if got := jumps(t, k, "A"); got != nil {
			t.Errorf("without a table: %v", got)
		}
		loadCounted(t, k, `*nat
:A - [0:0]
:B - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
[7:700] -A A -m statistic --mode random --probability 0.5 -m comment --comment "c" -j B
[4294967300:1] -A A -p tcp -m tcp --dport 80 -g KUBE-SEP-AAAAAAAAAAAAAAAA
[9:9] -A A -j RETURN
[3:3] -A A -j B
[5:5] -A A -j MARK --set-xmark 0x4000/0x4000
[6:6] -A A
[1:1] -A B -j KUBE-SEP-AAAAAAAAAAAAAAAA
COMMIT
*filter
:A - [0:0]
[8:8] -A A -j ACCEPT
COMMIT
`)
		for chain, want := range map[string][]string{
			"A":           {"B 7", "KUBE-SEP-AAAAAAAAAAAAAAAA 4294967300", "B 3"},
			"B":           {"KUBE-SEP-AAAAAAAAAAAAAAAA 1"},
			"POSTROUTING": nil,
			"NONE":        nil,
		} {
			if got := jumps(t, k, chain); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", chain, got, want)
			}
		}
	})
}

// loadCounted loads rules with counters. ip6tables-nft-restore of iptables 1.8.9 takes
// all for 0; nft does not.
func loadCounted(t *testing.T, k *Tables, text string) {
	t.Helper()
	kerneltest.Run(t, text, k.tools.restore, "--noflush", "--counters")
	if _, legacy := k.witness.(*blobs); legacy || k.family == rules.IPv4 {
		return
	}
	zeros := regexp.MustCompile(`counter packets \d+ bytes \d+`)
	counts := regexp.MustCompile(`(?m)^\[(\d+):(\d+)\]`).FindAllStringSubmatch(text, -1)
	script := zeros.ReplaceAllStringFunc(kerneltest.Run(t, "", "nft", "list", "ruleset"), func(string) string {
		packets, bytes := counts[0][1], counts[0][2]
		counts = counts[1:]
		return "counter packets " + packets + " bytes " + bytes
	})
	kerneltest.Run(t, "flush ruleset\n"+script, "nft", "-f", "-")
}

func jumps(t *testing.T, k *Tables, chain string) []string {
	t.Helper()
	c, err := k.JumpCounts()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got []string
	if err := c.Each(chain, func(to string, packets uint64) { got = append(got, fmt.Sprint(to, " ", packets)) }); err != nil {
		t.Fatal(err)
	}
	return got
}

// A table of many chains is read whole, and by the chain.
func TestJumpCountsOfALargeTable(t *testing.T) {
	onEach(t, func(t *testing.T, k *Tables) {
		const n = 2000
		text := "*nat\n"
		for i := range n {
			text += fmt.Sprintf(":C%d - [0:0]\n", i)
		}
		for i := range n - 1 {
			text += fmt.Sprintf("[%d:1] -A C%d -j C%d\n", i, i, i+1)
		}
		loadCounted(t, k, text+"COMMIT\n")
		c, err := k.JumpCounts()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i := range n - 1 {
			found := false
			err := c.Each(fmt.Sprintf("C%d", i), func(to string, packets uint64) {
				found = to == fmt.Sprintf("C%d", i+1) && packets == uint64(i)
			})
			if err != nil || !found {
				t.Fatalf("C%d: %v, found: %v", i, err, found)
			}
		}
	})
}

// An entry that is cut off is an error, not a panic.
func TestJumpCountsOfNoTable(t *testing.T) {
	for _, f := range rules.Families() {
		j := &xtTable{xtSocket: &xtSocket{headSize: 112, nextOffset: 90}, entries: make([]byte, 150), chains: map[string]int{"A": 0}}
		if err := j.read("A", func(string, uint64) {}); err == nil {
			t.Errorf("%s: zeros are entries", f)
		}
		if err := j.index(5); err == nil {
			t.Errorf("%s: zeros are chains", f)
		}
	}
}
