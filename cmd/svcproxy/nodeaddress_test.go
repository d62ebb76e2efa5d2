package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// --bind-address is the node's primary address: node ports on primary addresses
// are open there, and source ranges with it in them hold the node.
func TestBindAddressIsTheNodesPrimaryAddress(t *testing.T) {
	objects := writeFile(t, "objects.yaml", `
apiVersion: v1
kind: Node
metadata: {name: here}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: InternalIP, address: "fd00::1"}]}
`)
	for flag, want := range map[string][]string{
		"":                              {"10.0.0.1", "fd00::1"},
		"--bind-address=0.0.0.0":        {"10.0.0.1", "fd00::1"},
		"--bind-address=::":             {"10.0.0.1", "fd00::1"},
		"--bind-address=10.0.0.9":       {"10.0.0.9", "fd00::1"},
		"--bind-address=fd00::9":        {"fd00::9", "10.0.0.1"},
		"--bind-address=::ffff:1.2.3.4": {"1.2.3.4", "fd00::1"},
	} {
		o := configured(t, append(strings.Fields(flag), "-f", objects, "--hostname-override=here")...)
		snap, _, err := o.snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range snap.Node.Primary {
			got = append(got, a.String())
			if !slices.Contains(snap.Node.Addresses, a) {
				t.Errorf("%s: %s is no address of the node", flag, a)
			}
		}
		if !slices.Equal(got, want) || !slices.IsSortedFunc(snap.Node.Addresses, netip.Addr.Compare) {
			t.Errorf("%s: primary %v, want %v; of %v", flag, got, want, snap.Node.Addresses)
		}
	}
}
