package status

import (
	"math"
	"strings"
)

// EachJump calls f for each rule of a nat chain of a family that leads to another
// chain, with the packets that it has sent there. A packet is a connection: the nat
// table sees no other.
type EachJump func(family, chain string, f func(to string, packets uint64)) error

// Measure fills in how the connections were spread, by the counters of the rules.
func (s *Service) Measure(each EachJump) error {
	for i := range s.Ports {
		p := &s.Ports[i]
		for j := range p.Balances {
			if err := p.measure(&p.Balances[j], each); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure fills in one balance. The rules of a chain are written together, so their
// counters have begun at the same time and tell how it spreads. With many endpoints
// the chain spreads over buckets and each of these over endpoints, since other times:
// an endpoint's part is that of its bucket, times its part in the bucket.
func (p *Port) measure(b *Balance, each EachJump) error {
	var buckets []bucket
	parts := tally{}
	b.Absent = true
	err := each(b.Family, b.Chain, func(to string, packets uint64) {
		b.Absent = false
		if strings.HasPrefix(to, b.Chain) {
			buckets = append(buckets, bucket{to, packets})
		} else {
			parts.add(to, packets, float64(packets))
		}
	})
	for _, bk := range buckets {
		if err != nil {
			return err
		}
		err = bk.measure(b, each, parts)
	}
	if err != nil {
		return err
	}
	p.fill(b, parts)
	return nil
}

// tally is what was counted for each endpoint's chain.
type tally map[string]*part

type part struct {
	packets uint64
	weight  float64
}

func (t tally) add(chain string, packets uint64, weight float64) {
	if !strings.HasPrefix(chain, "KUBE-SEP-") {
		return
	}
	if t[chain] == nil {
		t[chain] = &part{}
	}
	t[chain].packets += packets
	t[chain].weight += weight
}

// bucket is a chain that a balance leads to.
type bucket struct {
	chain   string
	packets uint64
}

// sticky: the chain sends clients back to where they came before, and lets all others
// fall through.
func (k bucket) sticky(b *Balance) bool { return strings.HasPrefix(k.chain, b.Chain+"s") }

func (k bucket) measure(b *Balance, each EachJump, parts tally) error {
	in := tally{}
	sum := 0.0
	err := each(b.Family, k.chain, func(to string, packets uint64) {
		in.add(to, packets, float64(packets))
		sum += float64(packets)
	})
	if err != nil {
		return err
	}
	scale := 1.0
	if !k.sticky(b) && sum > 0 {
		scale = float64(k.packets) / sum
	}
	for chain, p := range in {
		parts.add(chain, p.packets, p.weight*scale)
	}
	return nil
}

// fill writes what was counted into the balance and the shares of its endpoints.
func (p *Port) fill(b *Balance, parts tally) {
	total, sum := uint64(0), 0.0
	for _, part := range parts {
		total += part.packets
		sum += part.weight
	}
	b.Connections = &total
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		if e.Family != b.Family {
			continue
		}
		for j := range e.Shares {
			if s := &e.Shares[j]; s.Policy == b.Policy {
				s.count(parts[e.Chain], sum)
			}
		}
	}
}

func (s *Share) count(p *part, sum float64) {
	if p == nil {
		p = &part{}
	}
	connections := p.packets
	s.Connections, s.Measured = &connections, nil
	if sum > 0 {
		m := round(p.weight / sum)
		s.Measured = &m
	}
}

// round keeps what a share's measurement can tell, so that it is short as text.
func round(share float64) float64 { return math.Round(share*1e6) / 1e6 }

// EndpointCount is the number of endpoints of all ports.
func (s *Service) EndpointCount() uint64 {
	n := 0
	for i := range s.Ports {
		n += len(s.Ports[i].Endpoints)
	}
	return uint64(n)
}

// Connections adds up what is known of all balances; false if nothing is.
func (s *Service) Connections() (n uint64, known bool) {
	for i := range s.Ports {
		for _, b := range s.Ports[i].Balances {
			if b.Connections != nil {
				n, known = n+*b.Connections, true
			}
		}
	}
	return n, known
}
