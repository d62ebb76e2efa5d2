package kernel

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"svcproxy/pkg/kernel/kerneltest"
	"svcproxy/pkg/rules"
)

// nftablesMode makes tables as kube-proxy's nftables mode leaves them, and one of
// somebody else.
func nftablesMode(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		kerneltest.Refuse(t, "nft is not installed")
	}
	kerneltest.Run(t, `
table ip kube-proxy {
	map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
	chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
	chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
}
table ip6 kube-proxy {
	chain filter-input { type filter hook input priority -110; policy accept; }
}
table ip other {
	chain c { type filter hook input priority 0; }
}
`, "nft", "-f", "-")
}

func nftTables(t *testing.T) string {
	t.Helper()
	return kerneltest.Run(t, "", "nft", "list", "tables")
}

func TestRemoveNFTablesMode(t *testing.T) {
	kerneltest.Enter(t)
	for _, f := range rules.Families() {
		if removed, err := RemoveNFTablesMode(f); removed || err != nil {
			t.Errorf("%s, where there is none: %v, %v", f, removed, err)
		}
	}
	nftablesMode(t)
	if removed, err := RemoveNFTablesMode(rules.IPv6); !removed || err != nil {
		t.Errorf("IPv6: %v, %v", removed, err)
	}
	if left := nftTables(t); !strings.Contains(left, "table ip kube-proxy") || strings.Contains(left, "table ip6 kube-proxy") {
		t.Errorf("of the tables of both families are left:\n%s", left)
	}
	if removed, err := RemoveNFTablesMode(rules.IPv4); !removed || err != nil {
		t.Errorf("IPv4: %v, %v", removed, err)
	}
	if left := nftTables(t); strings.TrimSpace(left) != "table ip other" {
		t.Errorf("left:\n%s", left)
	}
}

func TestCleanupRemovesNFTablesMode(t *testing.T) {
	kerneltest.Enter(t)
	nftablesMode(t)
	if err := Cleanup(context.Background(), rules.Families()); err != nil {
		t.Error(err)
	}
	if left := nftTables(t); strings.Contains(left, "kube-proxy") || !strings.Contains(left, "table ip other") {
		t.Errorf("left:\n%s", left)
	}
}

func TestHasIPVSMode(t *testing.T) {
	kerneltest.Enter(t)
	if HasIPVSMode() {
		t.Error("found where there is none")
	}
	kerneltest.Run(t, "", "ip", "link", "add", "kube-ipvs0", "type", "bridge") // not every kernel has type dummy
	if !HasIPVSMode() {
		t.Error("not found")
	}
}
