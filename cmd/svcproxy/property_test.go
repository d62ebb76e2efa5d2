package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// good is a Service that nothing in drawObjects competes with.
const good = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"good","namespace":"ns"},"spec":{"clusterIP":"10.97.0.1","ports":[{"port":80}]}}`
const goodSlice = `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"good-1","namespace":"ns","labels":{"kubernetes.io/service-name":"good"}},` +
	`"addressType":"IPv4","ports":[{"port":80}],"endpoints":[{"addresses":["10.21.9.9"]}]}`

func writeList(t interface{ Fatal(...any) }, path string, items []json.RawMessage) {
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sets is how many times rapid draws its hundred sets of objects.
const sets = 10

// Whatever stands in the objects: the rules for the good Service are there, no
// rule is one that we could not read back, what is wrong is said in one line each,
// and neither rules nor messages depend on the order of the objects.
func TestAnyInput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "objects.json")
	dry := func(items []json.RawMessage) (stdout, stderr string) {
		writeList(t, file, items)
		var out, errs bytes.Buffer
		if status := run(context.Background(), []string{"--dry-run", "-f", file, "--hostname-override", "here"}, strings.NewReader(""), &out, &errs); status > 1 {
			t.Fatalf("status %d: %s", status, &errs)
		}
		return out.String(), errs.String()
	}
	property := func(t *rapid.T) {
		items := append(drawObjects(t), json.RawMessage(good), json.RawMessage(goodSlice))
		stdout, stderr := dry(items)
		for _, rule := range []string{
			`-A KUBE-SERVICES -d 10.97.0.1/32 -p tcp -m comment --comment "ns/good cluster IP" -m tcp --dport 80 -j KUBE-SVC-`,
			`-j DNAT --to-destination 10.21.9.9:80`,
		} {
			if !strings.Contains(stdout, rule) {
				t.Fatalf("no %s in\n%s", rule, stdout)
			}
		}
		for line := range strings.Lines(stderr) {
			if !strings.Contains(line, "/") && !strings.HasPrefix(line, "kubernetes spec.cidrs") && !strings.HasPrefix(line, "svcproxy: ") {
				t.Fatalf("a message that names no object: %q", line)
			}
		}
		checkReadable(t, stdout)
		again, said := dry(rapid.Permutation(items).Draw(t, "order"))
		if again != stdout || said != stderr {
			t.Fatalf("in another order:\n%s%s\ninstead of\n%s%s", again, said, stdout, stderr)
		}
	}
	for range sets {
		rapid.Check(t, property)
	}
}

// checkReadable reads what dry-run printed, family by family.
func checkReadable(t *rapid.T, stdout string) {
	for i, part := range strings.Split(stdout, "# IPv6 rules") {
		tables, err := rules.ParseSave([]byte("# "+part), rules.Families()[i])
		if err != nil {
			t.Fatalf("%v\n%s", err, part)
		}
		checkParsed(t, tables)
	}
}

// The kernel takes the rules for any objects, and after any changes it has what
// a fresh load would give it.
func TestKernelEndsWhereAFreshLoadDoes(t *testing.T) {
	for _, b := range []kernel.Backend{kernel.NFT, kernel.Legacy} {
		t.Run(string(b), func(t *testing.T) {
			kerneltest.Enter(t)
			file := filepath.Join(t.TempDir(), "objects.json")
			rapid.Check(t, func(t *rapid.T) {
				writeList(t, file, drawObjects(t))
				command(t, "--once", "-f", file, "--hostname-override", "here", "--iptables-backend", string(b), "--cluster-cidr", "10.21.0.0/16")
				for _, f := range rules.Families() {
					text := command(t, "--dry-run", "-f", file, "--hostname-override", "here", "--ip-family", f.String(), "--cluster-cidr", "10.21.0.0/16")
					sameInKernel(t, f, b, text)
				}
			})
		})
	}
}

// command runs svcproxy; objects that are wrong are no failure.
func command(t *rapid.T, args ...string) []byte {
	var stdout, stderr bytes.Buffer
	status := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr)
	if status > 1 || status == 1 && !slices.Contains(args, "--dry-run") {
		t.Fatalf("%v: status %d: %s", args, status, &stderr)
	}
	return stdout.Bytes()
}

func sameInKernel(t *rapid.T, f rules.Family, b kernel.Backend, text []byte) {
	tables, err := rules.ParseSave(text, f)
	if err != nil {
		t.Fatal(err)
	}
	want := rules.Own(f, tables)
	host := kernel.NewHost(b)
	defer host.Close()
	k, err := host.Tables(f)
	if err != nil {
		t.Fatal(err)
	}
	have, err := k.Read(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if plan := rules.NewPlan(have, want, 0); !plan.Empty() {
		t.Fatalf("%s: the kernel differs by\n%s", f, rules.RenderPlan(plan))
	}
}
