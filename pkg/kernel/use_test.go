package kernel

import (
	"reflect"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// What is in use is the same on both backends, and a look at it makes no table.
func TestUse(t *testing.T) {
	for _, b := range []Backend{NFT, Legacy} {
		for _, f := range rules.Families() {
			t.Run(string(b)+"/"+f.String(), func(t *testing.T) {
				kerneltest.Enter(t)
				if got := inspect(b, rules.Families()); !reflect.DeepEqual(got, use{}) || len(legacyTables(f)) > 0 {
					t.Errorf("nothing is there: %+v, legacy tables %v", got, legacyTables(f))
				}
				command := commandName(f)
				kerneltest.Run(t, `*mangle
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:A - [0:0]
-A OUTPUT -j KUBE-SERVICES
-A KUBE-SERVICES -p tcp -m tcp --dport 80 -g A
-A KUBE-SERVICES -p tcp -m tcp --dport 81
-A A -j RETURN
COMMIT
*filter
-A INPUT -j ACCEPT
COMMIT
`, command+"-"+string(b)+"-restore", "--noflush")
				want := use{rules: 7, hints: 2}
				got := inspect(b, rules.Families())
				if got.rules != want.rules || got.hints != want.hints || len(got.tables) != 2 {
					t.Errorf("%+v, want %+v in nat and filter", got, want)
				}
				other := map[Backend]Backend{NFT: Legacy, Legacy: NFT}[b]
				if got := inspect(other, rules.Families()); !reflect.DeepEqual(got, use{}) {
					t.Errorf("%s: %+v, want nothing", other, got)
				}
			})
		}
	}
}
