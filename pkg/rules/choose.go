package rules

import "slices"

// chosen is the endpoints of one service port that one node uses, in the order
// of ServicePort.Endpoints.
type chosen struct {
	cluster []Endpoint // for traffic with policy Cluster
	local   []Endpoint // for traffic with policy Local
	// any says that the service has a usable endpoint somewhere, though maybe
	// none that this node may use: then traffic is dropped rather than rejected,
	// so that a client tries again elsewhere instead of giving up.
	any bool
}

// reachable returns every endpoint that this node may send to, each once.
func (c *chosen) reachable() []Endpoint {
	out := slices.Clone(c.cluster)
	for _, ep := range c.local {
		if !slices.ContainsFunc(c.cluster, func(o Endpoint) bool { return o.Addr == ep.Addr }) {
			out = append(out, ep)
		}
	}
	return out
}

// choose applies KEP-1669 and KEP-2433/3015, as kube-proxy's CategorizeEndpoints
// does. Policy Cluster takes the ready endpoints that topology hints allow, or
// else those that terminate but still serve; policy Local takes the same of the
// node's own endpoints, and hints do not matter. usesCluster and usesLocal say
// which of the two policies the service port has any traffic for.
func choose(eps []Endpoint, node *Node, usesCluster, usesLocal bool) chosen {
	var c chosen
	if usesCluster {
		allowed := hintFilter(eps, node)
		c.cluster = keep(eps, func(e *Endpoint) bool { return e.Ready && allowed(e) })
		if len(c.cluster) == 0 {
			c.cluster = keep(eps, (*Endpoint).draining)
		}
		c.any = len(c.cluster) > 0
	}
	if usesLocal {
		c.local = keep(eps, func(e *Endpoint) bool { return e.Ready && e.on(node) })
		if len(c.local) == 0 {
			c.local = keep(eps, func(e *Endpoint) bool { return e.draining() && e.on(node) })
		}
		c.any = c.any || slices.ContainsFunc(eps, func(e Endpoint) bool { return e.Ready || e.draining() })
	}
	return c
}

// draining reports whether the endpoint is going away but still answers.
func (e *Endpoint) draining() bool { return !e.Ready && e.Serving && e.Terminating }

func (e *Endpoint) on(node *Node) bool { return e.NodeName != "" && e.NodeName == node.Name }

func keep(eps []Endpoint, want func(*Endpoint) bool) []Endpoint {
	var out []Endpoint
	for i := range eps {
		if want(&eps[i]) {
			out = append(out, eps[i])
		}
	}
	return out
}

// hintFilter says which endpoints topology hints leave to this node. Hints hold
// only if every ready endpoint has one and at least one names this node or, if
// node hints do not hold, this zone: anything else is a state in between, in
// which no endpoint may be left without traffic (kube-proxy's rule).
func hintFilter(eps []Endpoint, node *Node) func(*Endpoint) bool {
	forNode := func(e *Endpoint) []string { return e.NodeHints }
	forZone := func(e *Endpoint) []string { return e.ZoneHints }
	switch {
	case hintsHold(eps, node.Name, forNode):
		return func(e *Endpoint) bool { return slices.Contains(e.NodeHints, node.Name) }
	case hintsHold(eps, node.Zone, forZone):
		return func(e *Endpoint) bool { return slices.Contains(e.ZoneHints, node.Zone) }
	}
	return func(*Endpoint) bool { return true }
}

func hintsHold(eps []Endpoint, here string, hints func(*Endpoint) []string) bool {
	if here == "" {
		return false
	}
	found := false
	for i := range eps {
		if !eps[i].Ready {
			continue
		}
		h := hints(&eps[i])
		if len(h) == 0 {
			return false
		}
		found = found || slices.Contains(h, here)
	}
	return found
}
