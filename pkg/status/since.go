package status

// Since returns the report with the connections and measured shares of the time
// since an earlier one. Services that were not in that one keep theirs, as do those
// whose counters began anew.
func (r *Report) Since(before *Report) *Report {
	was := make(map[string]*Service, len(before.Services))
	for i := range before.Services {
		was[before.Services[i].ID()] = &before.Services[i]
	}
	out := *r
	out.Services = make([]Service, len(r.Services))
	for i := range r.Services {
		out.Services[i] = r.Services[i].since(was[r.Services[i].ID()])
	}
	return &out
}

func (s *Service) since(before *Service) Service {
	out := *s
	out.Ports = make([]Port, len(s.Ports))
	for i := range s.Ports {
		out.Ports[i] = s.Ports[i].since(before.port(&s.Ports[i]))
	}
	return out
}

// port returns the port that has the protocol and number of p; nil: there is none.
func (s *Service) port(p *Port) *Port {
	if s == nil {
		return nil
	}
	for i := range s.Ports {
		if o := &s.Ports[i]; o.Protocol == p.Protocol && o.Port == p.Port && o.NodePort == p.NodePort {
			return o
		}
	}
	return nil
}

func (p *Port) since(before *Port) Port {
	out := *p
	out.Balances = append([]Balance(nil), p.Balances...)
	out.Endpoints = make([]Endpoint, len(p.Endpoints))
	for i := range p.Endpoints {
		out.Endpoints[i] = p.Endpoints[i]
		out.Endpoints[i].Shares = append([]Share(nil), p.Endpoints[i].Shares...)
	}
	for i := range out.Balances {
		out.subtract(&out.Balances[i], before)
	}
	return out
}

// subtract takes off what a balance had counted before, of all its endpoints unless
// one of them counts from anew.
func (p *Port) subtract(b *Balance, before *Port) {
	if before == nil || b.Connections == nil {
		return
	}
	type taken struct {
		share *Share
		n     uint64
	}
	var shares []taken
	total := uint64(0)
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		if e.Family != b.Family {
			continue
		}
		s, old := e.share(b.Policy), before.connections(e.Address, b.Policy)
		if s == nil || s.Connections == nil {
			continue
		}
		if *s.Connections < old {
			return
		}
		shares = append(shares, taken{s, *s.Connections - old})
		total += *s.Connections - old
	}
	b.Connections = &total
	for _, t := range shares {
		t.share.Connections, t.share.Measured = &t.n, nil
		if total > 0 {
			m := round(float64(t.n) / float64(total))
			t.share.Measured = &m
		}
	}
}

// share returns the endpoint's share under a policy; nil: it has none.
func (e *Endpoint) share(policy string) *Share {
	for i := range e.Shares {
		if e.Shares[i].Policy == policy {
			return &e.Shares[i]
		}
	}
	return nil
}

// connections is what an endpoint had under a policy; 0 if that is not known.
func (p *Port) connections(address, policy string) uint64 {
	for i := range p.Endpoints {
		if e := &p.Endpoints[i]; e.Address == address {
			if s := e.share(policy); s != nil && s.Connections != nil {
				return *s.Connections
			}
		}
	}
	return 0
}
