package rules

// Counts says how much a Builder made of the last snapshot, for metrics. It costs
// nothing to get: a build keeps it up to date by what changed.
type Counts struct {
	FilterRules, NatRules int // in chains of our own
	Endpoints             int // of the family, each as often as it serves a port

	// Service ports with endpoints, but none on this node where policy Local wants
	// one: for traffic to the cluster IP, and for traffic from outside.
	NoLocalInternal, NoLocalExternal int
}

// Counts returns what the last Build made; zeros before the first one.
func (b *Builder) Counts() Counts {
	return Counts{
		FilterRules: b.filter.rules, NatRules: b.nat.rules, Endpoints: b.endpoints,
		NoLocalInternal: int(b.noLocal.internal), NoLocalExternal: int(b.noLocal.external),
	}
}

// Counts returns how many rules there are in the chains; Counts' other fields are 0.
func (r *Ruleset) Counts() Counts {
	return Counts{FilterRules: countRules(r.Table(Filter).Chains), NatRules: countRules(r.Table(Nat).Chains)}
}

func countRules(chains []*Chain) int {
	n := 0
	for _, c := range chains {
		n += len(c.Rules)
	}
	return n
}

// noLocal counts service ports that policy Local leaves without an endpoint on
// the node. There is one for every Service, so it is small.
type noLocal struct{ internal, external int32 }

func (n *noLocal) replace(gone, come []*serviceRules) {
	for _, s := range gone {
		n.internal -= s.noLocal.internal
		n.external -= s.noLocal.external
	}
	for _, s := range come {
		n.internal += s.noLocal.internal
		n.external += s.noLocal.external
	}
}

// countNoLocal counts the port where the metric of kube-proxy does: it has
// endpoints somewhere, and traffic under policy Local is dropped here.
func (p *portRules) countNoLocal() {
	if !p.eps.any {
		return
	}
	if p.reachableFromInside() && !p.served(p.svc.InternalTrafficLocal) {
		p.out.noLocal.internal++
	}
	if p.reachableFromOutside() && !p.served(p.svc.ExternalTrafficLocal) {
		p.out.noLocal.external++
	}
}
