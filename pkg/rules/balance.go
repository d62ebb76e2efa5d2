package rules

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
)

// A packet is spread over endpoints by a list in which rule i of n takes one of
// the n-i packets that got so far, and the last one takes the rest. Beyond
// listSize endpoints the list would be long to walk and long to write for each
// change: then endpoints fall into buckets by the hash of their name, a list
// spreads over the buckets by their size, and one in each bucket over its
// endpoints. Each endpoint keeps the share 1/n; one that comes or goes changes
// its bucket and the shares of the buckets.
const (
	listSize   = 16
	maxBuckets = 256 // their numbers are two digits of a chain's name
)

// balancing makes the rules and chains that spread packets over the endpoints of
// one chain, KUBE-SVC or KUBE-SVL.
type balancing struct {
	port   *portRules
	local  bool
	chains []*Chain // of buckets
}

// balance returns what stands in the chain, and the chains of its buckets. With
// session affinity, clients that an endpoint has on its list go there first.
func balance(p *portRules, local bool, eps []Endpoint) ([]Rule, []*Chain) {
	b := &balancing{port: p, local: local}
	if len(eps) <= cmp.Or(p.cfg.leaf, listSize) {
		return append(b.sticky(eps), b.spread(eps)...), nil
	}
	buckets := b.buckets(eps)
	var sticky, spread []Rule
	left := len(eps)
	for i, in := range buckets {
		if len(in) == 0 {
			continue
		}
		if p.affinity() != 0 {
			sticky = append(sticky, Rule{}.to(b.add(b.stickyName(i), b.sticky(in))))
		}
		r := Rule{}.to(b.add(fmt.Sprintf("%s-%02X", p.policyChain(local), i), b.spread(in)))
		if len(in) < left {
			r.Statistic = Share(len(in), left)
		}
		spread = append(spread, r)
		left -= len(in)
	}
	return append(sticky, spread...), b.chains
}

// buckets spreads endpoints by a hash of theirs alone: where one belongs does not
// depend on the others, but for the number of buckets, which is about the root of
// theirs.
func (b *balancing) buckets(eps []Endpoint) [][]Endpoint {
	out := make([][]Endpoint, min(1<<((bits.Len(uint(len(eps)))+1)/2), maxBuckets))
	for _, ep := range eps {
		name := endpointChain(b.port.id, b.port.port.Protocol, ep.Addr)
		i := base32Value(name[len(name)-1])<<5 | base32Value(name[len(name)-2])
		i %= len(out)
		out[i] = append(out[i], ep)
	}
	return out
}

// base32Value is the five bits of a character of a hash.
func base32Value(c byte) int {
	if c >= 'A' {
		return int(c - 'A')
	}
	return int(c-'2') + 26
}

func (b *balancing) add(name string, rules []Rule) string {
	b.chains = append(b.chains, &Chain{Name: name, Rules: rules})
	return name
}

// stickyName is the name of the chain for the affinity of a bucket.
func (b *balancing) stickyName(bucket int) string {
	return fmt.Sprintf("%ss%02X", b.port.policyChain(b.local), bucket)
}

// sticky sends clients back to the endpoint that they came to before.
func (b *balancing) sticky(eps []Endpoint) []Rule {
	if b.port.affinity() == 0 {
		return nil
	}
	rules := make([]Rule, 0, 2*len(eps))
	for _, ep := range eps {
		r := b.port.toEndpoint(ep)
		came := Recent{Op: RecentCheck, List: r.Target.Name, Seconds: b.port.affinity(), Reap: true}
		rules = append(rules, r.With(Rare{Recent: came}))
	}
	return rules
}

// spread gives each endpoint the same share.
func (b *balancing) spread(eps []Endpoint) []Rule {
	rules := slices.Grow([]Rule(nil), len(eps))
	for i, ep := range eps {
		r := b.port.toEndpoint(ep)
		if left := len(eps) - i; left > 1 {
			r.Statistic = Share(1, left)
		}
		rules = append(rules, r)
	}
	return rules
}
