package main

import (
	"bytes"
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
)

// --once says by its exit status whether the kernel has all: a Service that it
// refuses is named, and served once it is taken.
func TestOnceFailsWhereTheKernelRefusesAService(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			kerneltest.Enter(t)
			lacking := kerneltest.NewLacking(t)
			once := func() (status int, stderr string) {
				var out, errs bytes.Buffer
				args := []string{"--once", "--iptables-backend=" + backend, "--ip-family=ipv4", "-f", "../../manifests/nginx-demo/as-stored"}
				status = run(t.Context(), args, strings.NewReader(""), &out, &errs)
				return status, errs.String()
			}
			lacking.Refuse("--to-destination 10.21.3.2")
			if status, stderr := once(); status != 1 || !strings.Contains(stderr, "refuses the rules of ns-test/nginx-service (IPv4)") {
				t.Errorf("status %d: %s", status, stderr)
			}
			lacking.Refuse("")
			if status, stderr := once(); status != 0 {
				t.Errorf("status %d: %s", status, stderr)
			}
			if rules := kerneltest.Run(t, "", "iptables-"+backend+"-save", "-t", "nat"); !strings.Contains(rules, "--to-destination 10.21.3.2:80") {
				t.Errorf("not served:\n%s", rules)
			}
		})
	}
}
