package rules

// balance returns the rules that spread packets over the endpoints, each with
// the same probability 1/n: a list in which rule i of n takes one of the n-i
// packets that got so far, and the last one takes the rest. With session
// affinity, clients that an endpoint has on its list go there first.
func balance(p *portRules, eps []Endpoint) []Rule {
	rules := make([]Rule, 0, 2*len(eps))
	for _, ep := range eps {
		if p.svc.AffinitySeconds == 0 {
			break
		}
		r := p.toEndpoint(ep)
		r.Recent = Recent{Op: RecentCheck, List: r.Target.Name, Seconds: p.svc.AffinitySeconds, Reap: true}
		rules = append(rules, r)
	}
	for i, ep := range eps {
		r := p.toEndpoint(ep)
		if left := len(eps) - i; left > 1 {
			r.Statistic = OneOf(left)
		}
		rules = append(rules, r)
	}
	return rules
}
