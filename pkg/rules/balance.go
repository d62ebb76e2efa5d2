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
// endpoints. Where the buckets are many too, a list spreads over groups of them.
// Each endpoint keeps the share 1/n; one that comes or goes changes its bucket, and
// the shares of the buckets in its group and of the groups.
const (
	listSize   = 16
	bucketBits = 8 // at most: the number of a bucket is two digits of a chain's name
)

// balancing makes the rules and chains that spread packets over the endpoints of
// one chain, KUBE-SVC or KUBE-SVL.
type balancing struct {
	port   *portRules
	local  bool
	list   int      // how many rules a list may have, about
	chains []*Chain // of buckets and groups
}

// part is a chain that a part of the packets is sent to.
type part struct {
	chain     string
	endpoints int
}

// balance returns what stands in the chain, and the chains of its buckets. With
// session affinity, clients that an endpoint has on its list go there first.
func balance(p *portRules, local bool, eps []Endpoint) ([]Rule, []*Chain) {
	b := &balancing{port: p, local: local, list: cmp.Or(p.cfg.leaf, listSize)}
	if len(eps) <= b.list {
		return append(b.sticky(eps), b.spread(eps)...), nil
	}
	buckets := b.buckets(eps)
	sticky := b.stickyBuckets(buckets)
	parts := b.parts(buckets)
	if len(buckets) > b.list {
		parts = b.group(parts)
	}
	return append(sticky, divide(parts)...), b.chains
}

// buckets spreads endpoints by a hash of theirs alone: where one belongs does not
// depend on the others, but for the number of buckets, which is a power of two. They
// are short, half a list at most on average: unlike the chains above it, the one that
// a packet meets is hardly ever in the processor's cache.
func (b *balancing) buckets(eps []Endpoint) [][]Endpoint {
	out := make([][]Endpoint, 1<<min(bits.Len(uint(len(eps)-1)/uint(max(1, b.list/2))), bucketBits))
	for _, ep := range eps {
		name := endpointChain(b.port.id, b.port.port.Protocol, ep.Addr)
		i := base32Value(name[len(name)-1])<<5 | base32Value(name[len(name)-2])
		i %= len(out)
		out[i] = append(out[i], ep)
	}
	return out
}

// parts makes a chain of each bucket; one that is empty has none.
func (b *balancing) parts(buckets [][]Endpoint) []part {
	out := make([]part, len(buckets))
	for i, in := range buckets {
		if len(in) > 0 {
			out[i] = part{b.add(fmt.Sprintf("%s-%02X", b.port.policyChain(b.local), i), b.spread(in)), len(in)}
		}
	}
	return out
}

// group makes chains of as many buckets each as there are such chains, or of twice as
// many.
func (b *balancing) group(buckets []part) []part {
	var out []part
	size := 1 << (bits.Len(uint(len(buckets))) / 2)
	for in := range slices.Chunk(buckets, size) {
		g := part{}
		for _, p := range in {
			g.endpoints += p.endpoints
		}
		if g.endpoints > 0 {
			g.chain = b.add(fmt.Sprintf("%s-%X", b.port.policyChain(b.local), len(out)), divide(in))
		}
		out = append(out, g)
	}
	return out
}

// divide sends to each part as many packets as it has endpoints of all.
func divide(parts []part) []Rule {
	left := 0
	for _, p := range parts {
		left += p.endpoints
	}
	var out []Rule
	for _, p := range parts {
		if p.endpoints == 0 {
			continue
		}
		r := Rule{}.to(p.chain)
		if p.endpoints < left {
			r.Statistic = Share(p.endpoints, left)
		}
		out = append(out, r)
		left -= p.endpoints
	}
	return out
}

// stickyBuckets sends clients to the buckets in one of which they may have an endpoint.
func (b *balancing) stickyBuckets(buckets [][]Endpoint) []Rule {
	if b.port.affinity() == 0 {
		return nil
	}
	var out []Rule
	for i, in := range buckets {
		if len(in) > 0 {
			out = append(out, Rule{}.to(b.add(b.stickyName(i), b.sticky(in))))
		}
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
