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
// the chain spreads over buckets, or groups of buckets, and each of these on, since
// other times: an endpoint's part is that of its bucket, times its part in the bucket.
func (p *Port) measure(b *Balance, each EachJump) error {
	b.Absent = true
	parts, err := b.tally(b.Chain, each, mostLevels)
	if err == nil {
		p.fill(b, parts)
	}
	return err
}

// mostLevels are a balance, a group of its buckets, and a bucket.
const mostLevels = 3

// tally counts what a chain of the balance sends to endpoints, itself and by the
// chains that it leads to, of which there are so many levels at most.
func (b *Balance) tally(chain string, each EachJump, levels int) (tally, error) {
	parts := tally{}
	var buckets []bucket
	err := each(b.Family, chain, func(to string, packets uint64) {
		b.Absent = false
		if strings.HasPrefix(to, b.Chain) {
			buckets = append(buckets, bucket{to, packets})
		} else {
			parts.add(to, packets, float64(packets))
		}
	})
	if levels == 1 {
		return parts, err
	}
	for _, k := range buckets {
		if err != nil {
			return nil, err
		}
		var in tally
		in, err = b.tally(k.chain, each, levels-1)
		scale := k.scale(b, in)
		for chain, p := range in {
			parts.add(chain, p.packets, p.weight*scale)
		}
	}
	return parts, err
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

// weight is that of all parts.
func (t tally) weight() float64 {
	sum := 0.0
	for _, p := range t {
		sum += p.weight
	}
	return sum
}

// bucket is a chain that a balance leads to, or a group of such chains.
type bucket struct {
	chain   string
	packets uint64
}

// scale is what the weights in a bucket are to be multiplied by, so that they are as
// much as came to it. A sticky one sends clients back to where they came before, and
// lets all others fall through: what came to it says nothing.
func (k bucket) scale(b *Balance, in tally) float64 {
	sum := in.weight()
	if strings.HasPrefix(k.chain, b.Chain+"s") || sum == 0 {
		return 1
	}
	return float64(k.packets) / sum
}

// fill writes what was counted into the balance and the shares of its endpoints.
func (p *Port) fill(b *Balance, parts tally) {
	total, sum := uint64(0), parts.weight()
	for _, part := range parts {
		total += part.packets
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
