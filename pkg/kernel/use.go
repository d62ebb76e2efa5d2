//go:build linux

package kernel

import (
	"errors"
	"slices"

	"github.com/vishvananda/netlink"

	"svcproxy/pkg/rules"
)

// use is how a backend is used on a host. It is asked of the kernel and not of the
// commands, which take a second to print the rules of 10,000 Services.
type use struct {
	tables []string // that hold rules, as "iptables nat"
	rules  int      // one that leads to another chain counts twice
	hints  int      // chains by which kubelet and kube-proxy mark the backend they use
}

// hintChains are kubelet's (IPTablesOwnershipCleanup, KEP-3178) and a service proxy's.
var hintChains = []string{"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY", "KUBE-SERVICES"}

// inspect counts what is there of one backend. A family whose tables cannot be read is
// not in use.
func inspect(b Backend, families []rules.Family) use {
	add := (*use).addNFT
	if b == Legacy {
		add = (*use).addLegacy
	}
	var u use
	for _, f := range families {
		add(&u, f)
	}
	return u
}

// hooks are the built-in chains of iptables. A table that has another chain of a hook is
// nft's own, and iptables-nft cannot use it.
var hooks = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

func (u *use) addNFT(f rules.Family) {
	chains, err := nftChains(netlinkFamily(f))
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // which means that some are missing
		return
	}
	own := map[rules.TableName]bool{}
	for _, name := range allTables {
		own[name] = true
	}
	for _, c := range chains {
		if c.hooked && !slices.Contains(hooks, c.name) {
			own[c.table] = false
		}
	}
	for _, c := range chains {
		if own[c.table] {
			u.chain(c.name)
			u.count(f, c.table, int(c.uses))
		}
	}
}

func (u *use) addLegacy(f rules.Family) {
	for _, name := range legacyTables(f) {
		t, err := readXTTable(f, rules.TableName(name))
		if errors.Is(err, errors.ErrUnsupported) {
			u.count(f, rules.TableName(name), 1) // the table is there, whatever it holds
		}
		if err != nil {
			continue
		}
		for chain := range t.chains {
			u.chain(chain)
		}
		u.count(f, rules.TableName(name), t.uses)
		t.close()
	}
}

func (u *use) chain(name string) {
	if slices.Contains(hintChains, name) {
		u.hints++
	}
}

func (u *use) count(f rules.Family, name rules.TableName, n int) {
	if n == 0 {
		return
	}
	u.rules += n
	if table := commandName(f) + " " + string(name); !slices.Contains(u.tables, table) {
		u.tables = append(u.tables, table)
	}
}
