package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/proxy"
	"svcproxy/pkg/rules"
)

// shop are the flags for the objects that the tests of trace share.
var shop = []string{"-f", "testdata/trace/shop.yaml", "--hostname-override=here", "--cluster-cidr=10.21.0.0/16", "--ip-family=ipv4"}

// codes lists why a packet does not arrive.
func codes(r *traceReport) []string {
	var out []string
	for _, reason := range r.Reasons {
		out = append(out, reason.Code)
	}
	return out
}

// On a node trace reads the kernel's rules; with objects it knows what should be there.
func TestTraceOfTheKernel(t *testing.T) {
	if !inside(t) {
		return
	}
	kerneltest.Run(t, "", "ip", "link", "add", "eth0", "type", "bridge")
	kerneltest.Run(t, "", "ip", "addr", "add", "10.250.0.2/24", "dev", "eth0")
	kerneltest.Run(t, "", "ip", "link", "set", "eth0", "up")
	kerneltest.Run(t, "", "ip", "route", "add", "default", "via", "10.250.0.1")
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			var out, errs bytes.Buffer
			if status := run(context.Background(), append([]string{"--once", "--iptables-backend=" + backend}, shop...), strings.NewReader(""), &out, &errs); status != 0 {
				t.Fatalf("status %d: %s", status, &errs)
			}
			traceServed(t, backend)
			traceLeftOut(t)
			traceDamaged(t, backend)
			kerneltest.Run(t, "", "iptables-"+backend, "-t", "nat", "-F")
			kerneltest.Run(t, "", "iptables-"+backend, "-t", "filter", "-F")
		})
	}
}

// traceServed: names are found in the rules alone, and the source is the node's.
func traceServed(t *testing.T, backend string) {
	r := traced(t, "", "--to", "shop/cart:http")
	if r.Arrives != arrivesYes || len(r.Ends) != 3 || r.From.Addr.String() != "10.250.0.2" || !strings.HasPrefix(r.Rules[0], "the kernel's, "+backend+" backend") {
		t.Errorf("%+v from %+v by %v: %s", r.Ends, r.From, r.Rules, r.Sentence)
	}
	if r.Passages[0].Steps[0].Counters == nil {
		t.Error("the kernel's rules are without counters")
	}
}

// traceLeftOut: the running proxy is asked which Services the kernel refuses.
func traceLeftOut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(quarantinePath, tellQuarantine(refusedCart))
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	for to, want := range map[string]bool{"shop/cart:http": true, "shop/checkout": false} {
		r := traced(t, "", "--to", to, "--metrics-bind-address="+l.Addr().String())
		if slices.Contains(codes(r), codeQuarantined) != want {
			t.Errorf("%s: %v", to, codes(r))
		}
	}
}

func refusedCart() []proxy.Quarantined {
	return []proxy.Quarantined{{Family: rules.IPv4, Namespace: "shop", Name: "cart", Port: "shop/cart:http", Reason: "too large"}}
}

// traceDamaged: rules that are missing are told from Services that nobody serves.
func traceDamaged(t *testing.T, backend string) {
	live := append([]string{"--rules=kernel"}, shop...)
	if r := traced(t, "", append(live, "--to", "shop/checkout")...); !slices.Equal(codes(r), []string{codeNotReady}) {
		t.Errorf("not ready: %v: %s", codes(r), r.Sentence)
	}
	kerneltest.Run(t, "", "iptables-"+backend, "-t", "nat", "-D", "OUTPUT", "1")
	if r := traced(t, "", append(live, "--to", "shop/cart:http")...); r.Arrives != arrivesNo || !slices.Equal(codes(r), []string{codeRulesMissing}) {
		t.Errorf("without the jump: %s, %v: %s", r.Arrives, codes(r), r.Sentence)
	}
	kerneltest.Run(t, "", "iptables-"+backend, "-t", "filter", "-I", "OUTPUT", "1", "-d", "10.96.0.10", "-m", "comment", "--comment", "by others", "-j", "DROP")
	if r := traced(t, "", "--to", "10.96.0.10:80"); r.Arrives != arrivesNo || !slices.Equal(codes(r), []string{codeForeignDrop}) {
		t.Errorf("dropped by others: %s, %v: %s", r.Arrives, codes(r), r.Sentence)
	}
}

// What can be done where iptables is not there, or may not be asked.
func TestTraceWithoutIptables(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out, errs bytes.Buffer
	status := run(context.Background(), []string{"trace", "--to", "ns/web"}, strings.NewReader(""), &out, &errs)
	if status != 1 || !strings.Contains(errs.String(), "no iptables backend is installed") || !strings.Contains(errs.String(), "--rules FILE") {
		t.Errorf("status %d: %s", status, &errs)
	}
}
