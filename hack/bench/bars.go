package main

import (
	"fmt"
	"slices"

	"svcproxy/hack/internal/proxies"
)

// bar is what svcproxy must reach: a value, or its ratio to another of the same
// run, that is at most a limit.
type bar struct {
	text  string
	what  key
	than  *key // nil: the value counts
	limit float64
}

// verdict is how a bar came out.
type verdict struct {
	bar
	value   float64
	skipped string // why there is no value
}

func (v verdict) met() bool { return v.value <= v.limit }

// noise is by how much "no slower" may be exceeded: medians of the same thing
// differ by that from run to run.
const noise = 1.05

// theSize is the one that most bars are about.
const theSize = 10000

func bars() []bar {
	at := size{theSize, 2}
	out := append(connectBars(), changeBars(at)...)
	out = append(out,
		bar{"CPU of one change, nft: at most 1/8 of kube-proxy iptables nft", key{changeCPU, proxies.SvcproxyNFT, at}, &key{changeCPU, proxies.KubeProxyNFT, at}, 1. / 8},
		bar{"first sync, nft: at most 1/8 of kube-proxy iptables nft", key{firstSync, proxies.SvcproxyNFT, at}, &key{firstSync, proxies.KubeProxyNFT, at}, 1. / 8},
		bar{"first sync, nft: faster than kube-proxy nftables", key{firstSync, proxies.SvcproxyNFT, at}, &key{firstSync, proxies.KubeProxyNFTables, at}, 1},
		bar{"first sync, legacy: no slower than kube-proxy iptables legacy", key{firstSync, proxies.SvcproxyLegacy, at}, &key{firstSync, proxies.KubeProxyLegacy, at}, noise},
		bar{"memory, nft: at most 1/2 of kube-proxy iptables nft", key{memory, proxies.SvcproxyNFT, at}, &key{memory, proxies.KubeProxyNFT, at}, 1. / 2},
		bar{"memory, nft: at most 1/2 of kube-proxy nftables", key{memory, proxies.SvcproxyNFT, at}, &key{memory, proxies.KubeProxyNFTables, at}, 1. / 2},
		bar{"memory, legacy: at most 1/2 of kube-proxy iptables legacy", key{memory, proxies.SvcproxyLegacy, at}, &key{memory, proxies.KubeProxyLegacy, at}, 1. / 2})
	for _, p := range []string{proxies.SvcproxyNFT, proxies.SvcproxyLegacy} {
		out = append(out,
			bar{"input of one change, " + p + ": under 2 KB", key{changeInput, p, at}, nil, 2047},
			bar{"restart on a right node, " + p + ": nothing written", key{restartRuns, p, at}, nil, 0},
			bar{"restart on a right node, " + p + ": ready in under 2 s", key{restart, p, at}, nil, 2})
	}
	return out
}

// connectBars say that the number of rules does not matter to a connection.
func connectBars() []bar {
	var out []bar
	for _, p := range []string{proxies.SvcproxyNFT, proxies.SvcproxyLegacy} {
		for _, s := range []size{{theSize, 2}, {30000, 2}} {
			for _, m := range []measure{connectFirst, connectLast, connectNone} {
				one := oneService
				if m == connectNone {
					one = oneNone
				}
				out = append(out,
					bar{fmt.Sprintf("%s, %s: at most 1.10 x one Service", m, p), key{m, p, s}, &key{one, p, s}, 1.10},
					bar{fmt.Sprintf("%s, %s: no slower than kube-proxy nftables", m, p), key{m, p, s}, &key{m, proxies.KubeProxyNFTables, s}, noise})
			}
		}
		many := size{1, 1000}
		out = append(out, bar{fmt.Sprintf("connect, %s: 1,000 endpoints at most 1.3 x two", p), key{connectFirst, p, many}, &key{oneService, p, many}, 1.3})
	}
	return out
}

func changeBars(at size) []bar {
	of := func(p string, s size) key { return key{change, p, s} }
	than := func(p string, s size) *key { k := of(p, s); return &k }
	out := []bar{
		{"one change, nft: at most 1/8 of kube-proxy iptables nft", of(proxies.SvcproxyNFT, at), than(proxies.KubeProxyNFT, at), 1. / 8},
		{"one change, nft: at most 1/2 of kube-proxy nftables", of(proxies.SvcproxyNFT, at), than(proxies.KubeProxyNFTables, at), 1. / 2},
		{"one change, legacy: at most 6/10 of kube-proxy iptables legacy", of(proxies.SvcproxyLegacy, at), than(proxies.KubeProxyLegacy, at), 0.6},
	}
	for _, p := range []string{proxies.SvcproxyNFT, proxies.SvcproxyLegacy} {
		out = append(out, bar{"one change, " + p + ": at most 1.5 x the same lines restored without a proxy", of(p, at), &key{bareRestore, p, at}, 1.5})
	}
	for _, n := range []int{100, 1000} {
		s := size{n, 2}
		out = append(out,
			bar{"one change, nft: no slower than kube-proxy nftables", of(proxies.SvcproxyNFT, s), than(proxies.KubeProxyNFTables, s), noise},
			bar{"one change, legacy: no slower than kube-proxy iptables legacy", of(proxies.SvcproxyLegacy, s), than(proxies.KubeProxyLegacy, s), noise})
	}
	return out
}

// judge compares. A peer that was given up at the time limit would have taken
// longer, so that the ratio to the limit is more than the true one.
func judge(r results) []verdict {
	var out []verdict
	for _, b := range bars() {
		v := verdict{bar: b}
		what, than := r[b.what], &series{values: []float64{1}}
		if b.than != nil {
			than = r[*b.than]
		}
		switch {
		case what == nil:
			v.skipped = r.missing(b.what)
		case than == nil:
			v.skipped = r.missing(*b.than)
		case what.over:
			v.skipped = r.missing(key{change, b.what.proxy, b.what.size})
		default:
			v.value = what.median() / than.median()
		}
		out = append(out, v)
	}
	return out
}

// missing says why there is nothing for a key.
func (r results) missing(k key) string {
	if s := r[key{firstSync, k.proxy, k.size}]; s != nil && s.over {
		return fmt.Sprintf("%s was over the limit of %.0f s", k.proxy, s.median())
	}
	if !slices.Contains(r.sizes(), k.size) {
		return fmt.Sprintf("%v was not run", k.size)
	}
	return fmt.Sprintf("%s was not run", k.proxy)
}
