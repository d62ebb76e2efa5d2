package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"svcproxy/hack/internal/proxies"
)

func TestFirstAndLast(t *testing.T) {
	const save = `:KUBE-SERVICES - [0:0]
-A KUBE-SERVICES -d 10.96.0.9/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SERVICES -d 10.96.0.4/32 -p tcp -m tcp --dport 80 -g KUBE-SVC-BBBBBBBBBBBBBBBB
-A KUBE-SERVICES -d 10.96.0.6/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ
`
	ips := []netip.Addr{netip.MustParseAddr("10.96.0.6"), netip.MustParseAddr("10.96.0.2")}
	if first, last := firstAndLast([]byte(save), ips); first.String() != "10.96.0.9" || last.String() != "10.96.0.4" {
		t.Errorf("of the rules: %v, %v", first, last)
	}
	if first, last := firstAndLast(nil, ips); first.String() != "10.96.0.2" || last.String() != "10.96.0.6" {
		t.Errorf("without rules: %v, %v", first, last)
	}
}

func TestClusterIPs(t *testing.T) {
	few, many := clusterIPs(100), clusterIPs(30000)
	if !slices.Equal(few, many[:100]) {
		t.Error("a Service's address depends on how many there are")
	}
	seen := map[netip.Addr]bool{}
	for _, a := range many {
		if seen[a] || !serviceNetwork.Contains(a) {
			t.Fatalf("%v: twice, or outside the network", a)
		}
		seen[a] = true
	}
}

func TestWrittenBrings(t *testing.T) {
	w := written{input: []byte("-A X -j DNAT --to-destination 10.64.0.31:8080\n-A Y --to-destination 10.64.0.4:8080\n")}
	for text, want := range map[string]bool{"10.64.0.3": false, "10.64.0.31": true, "10.64.0.4": true} {
		if got := w.brings(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// figures are those of a run in which everything is met but the first sync, and
// kube-proxy was given up with 30,000 Services.
func figures() results {
	r := results{}
	for _, n := range []int{1000, theSize} {
		s := size{n, 2}
		for _, p := range proxies.Names() {
			value := 100.
			if proxies.KindOf(p).Ours {
				value = 1
			}
			for _, row := range rows() {
				r.add(row.measure, p, s, value)
				r.add(row.measure, p, s, value+0.5)
			}
		}
		r[key{firstSync, proxies.SvcproxyNFT, s}] = &series{values: []float64{50, 40, 60}}
	}
	big := size{30000, 2}
	r.overLimit(proxies.KubeProxyNFT, big, 120)
	r.add(firstSync, proxies.SvcproxyNFT, big, 12)
	return r
}

func TestJudge(t *testing.T) {
	byText := map[string]verdict{}
	for _, v := range judge(figures()) {
		if v.what.size.services == theSize {
			byText[v.text] = v
		}
	}
	if v := byText["first sync, nft: at most 1/8 of kube-proxy iptables nft"]; v.met() || v.skipped != "" {
		t.Errorf("a miss: %+v", v)
	}
	if v := byText["one change, legacy: at most 6/10 of kube-proxy iptables legacy"]; !v.met() || v.value != 1.25/100.25 {
		t.Errorf("met: %+v", v)
	}
	for _, v := range judge(results{}) {
		if v.skipped == "" {
			t.Errorf("met with nothing measured: %s", v.text)
		}
	}
}

func TestTables(t *testing.T) {
	var out bytes.Buffer
	writeTables(&out, figures())
	writeBars(&out, judge(figures()))
	for _, want := range []string{"> 120 ", "12.0 = < 0.10 x", "50.0 (40.0-60.0) = 0.50 x", "MISSED", "1 Service x 1000 endpoints was not run"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in:\n%s", want, &out)
		}
	}
}

func TestPlotIsXML(t *testing.T) {
	for d := xml.NewDecoder(bytes.NewReader(plot(figures()))); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"-bin", "x", "-services", "1000,100,100", "-quick=false"}, io.Discard)
	if err != nil || !slices.Equal(o.services, []int{100, 1000}) || o.minSync != time.Second || strings.Contains(o.shown, "bin") {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range [][]string{{}, {"-bin", "x", "-proxies", "ipvs"}, {"-bin", "x", "-changes", "2"}, {"-bin", "x", "-services", "1"}, {"-bin", "x", "more"}} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("%q is no mistake", args)
		}
	}
}
