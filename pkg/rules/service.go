package rules

import (
	"net/netip"
	"slices"
)

// serviceRules is all that one Service adds to the ruleset of one family. The
// rules for shared chains are kept apart by chain, in the order of the ports.
type serviceRules struct {
	natServices      []Rule // nat KUBE-SERVICES
	natNodePorts     []Rule // nat KUBE-NODEPORTS
	filterServices   []Rule // filter KUBE-SERVICES
	externalServices []Rule // filter KUBE-EXTERNAL-SERVICES
	proxyFirewall    []Rule // filter KUBE-PROXY-FIREWALL
	filterNodePorts  []Rule // filter KUBE-NODEPORTS
	chains           []*Chain
	noLocal          noLocal
}

// buildService returns the rules of one Service. They are empty if it has no
// cluster IP of the family.
func buildService(svc *Service, node *Node, cfg *Config) *serviceRules {
	out := &serviceRules{}
	if !svc.in(cfg.Family) {
		return out
	}
	for i := range svc.Ports {
		if svc.Ports[i].Protocol == SCTP && cfg.Missing.Has(FeatureSCTP) {
			continue
		}
		p := newPortRules(svc, &svc.Ports[i], node, cfg, out)
		p.clusterIP()
		p.externalIPs()
		p.loadBalancerIPs()
		p.nodePort()
		p.externalChain()
		p.firewallChain()
		p.balancers()
		p.endpoints()
		p.countNoLocal()
	}
	healthCheck(svc, out)
	return out.fit(cfg)
}

// portRules builds the rules of one service port.
type portRules struct {
	out  *serviceRules
	cfg  *Config
	node *Node
	svc  *Service
	port *ServicePort
	id   string // namespace/name[:port]
	hash string

	clusterIPs  []netip.Addr // one, or none if it is taken
	external    []netip.Addr
	balancerIPs []netip.Addr
	sources     []netip.Prefix // who may use balancerIPs, if restricted
	restricted  bool
	closed      []netip.Addr // load balancer IPs that nobody may use
	eps         chosen
}

func newPortRules(svc *Service, port *ServicePort, node *Node, cfg *Config, out *serviceRules) *portRules {
	id := svc.ID(port)
	p := &portRules{
		out: out, cfg: cfg, node: node, svc: svc, port: port,
		id: id, hash: serviceHash(id, port.Protocol),
		clusterIPs:  port.serves(cfg.Family, ClusterIP, svc.ClusterIPs),
		external:    port.serves(cfg.Family, ExternalIP, cfg.externalIPs(svc)),
		balancerIPs: port.serves(cfg.Family, LoadBalancerIP, svc.LoadBalancerIPs),
	}
	p.restrict()
	var eps []Endpoint
	for _, ep := range port.Endpoints {
		if FamilyOf(ep.Addr.Addr()) == cfg.Family {
			eps = append(eps, ep)
		}
	}
	p.eps = choose(eps, node, p.usesCluster(), p.usesLocal())
	if cfg.Missing.Has(FeatureStatistic) {
		p.eps.cluster, p.eps.local = p.one(p.eps.cluster), p.one(p.eps.local)
	}
	return p
}

// reachableFromInside: the port has its cluster IP.
func (p *portRules) reachableFromInside() bool { return len(p.clusterIPs) > 0 }

// reachableFromOutside: the port has an address other than its cluster IP.
func (p *portRules) reachableFromOutside() bool {
	return p.port.NodePort != 0 || len(p.external) > 0 || len(p.balancerIPs) > 0
}

// usesCluster: policy Local for external traffic still needs the cluster's
// endpoints, for clients in pods and on the node itself.
func (p *portRules) usesCluster() bool {
	return p.reachableFromInside() && !p.svc.InternalTrafficLocal || p.reachableFromOutside()
}

func (p *portRules) usesLocal() bool {
	return p.reachableFromInside() && p.svc.InternalTrafficLocal || p.svc.ExternalTrafficLocal && p.reachableFromOutside()
}

// policyChain is the balancing chain that traffic under the given policy ends in.
func (p *portRules) policyChain(local bool) string {
	if local {
		return prefixLocal + p.hash
	}
	return prefixService + p.hash
}

// served reports whether traffic under the given policy has an endpoint here.
func (p *portRules) served(local bool) bool {
	return p.eps.any && (!local || len(p.eps.local) > 0)
}

func (p *portRules) externalChainName() string { return prefixExternal + p.hash }
func (p *portRules) firewallChainName() string { return prefixFirewall + p.hash }

// restrict works out who may use the load balancer IPs. A range that holds every
// address lifts the restriction, as in kube-proxy. If no range is of the family,
// nobody may; in kube-proxy everybody could.
func (p *portRules) restrict() {
	if !p.svc.RestrictSources {
		return
	}
	for _, r := range p.svc.SourceRanges {
		if FamilyOf(r.Addr()) != p.cfg.Family {
			continue
		}
		if r.Bits() == 0 {
			return
		}
		p.sources = append(p.sources, r)
	}
	p.restricted = true
	if len(p.sources) == 0 {
		p.balancerIPs, p.closed = nil, p.balancerIPs
	}
}

// to matches packets to one address of the port; comment follows the port's ID.
func (p *portRules) to(addr netip.Addr, comment string) Rule {
	return Rule{
		Comment:  p.id + " " + comment,
		Dst:      AddrMatch{Prefix: only(addr)},
		Protocol: p.port.Protocol,
		DstPort:  Port(p.port.Port),
	}
}

// refuse completes a match into the answer for traffic that no endpoint serves.
// It is rejected if there is no endpoint at all, and dropped if policy Local
// rules out those there are, so that a load balancer's client tries elsewhere;
// the configuration may ask to reject that too. comment gets what stands behind
// the port's ID.
func (p *portRules) refuse(match func(comment string) Rule) Rule {
	switch {
	case !p.eps.any:
		return match("has no endpoints").to(Reject)
	case p.cfg.RejectWithoutLocal:
		return match("has no local endpoints").to(Reject)
	}
	return match("has no local endpoints").to(Drop)
}

func (p *portRules) refuseAddr(addr netip.Addr) Rule {
	return p.refuse(func(comment string) Rule { return p.to(addr, comment) })
}

func (p *portRules) clusterIP() {
	local := p.svc.InternalTrafficLocal
	for _, ip := range p.clusterIPs {
		if !p.served(local) {
			p.out.filterServices = append(p.out.filterServices, p.refuseAddr(ip))
			continue
		}
		match := p.to(ip, "cluster IP")
		if p.cfg.detail >= nameless {
			match.Comment = ""
		}
		p.out.natServices = append(p.out.natServices, match.to(p.policyChain(local)))
	}
}

func (p *portRules) externalIPs() {
	for _, ip := range p.external {
		p.externalAddr(ip, "external IP", p.externalChainName())
	}
}

func (p *portRules) loadBalancerIPs() {
	chain := p.externalChainName()
	if p.restricted {
		chain = p.firewallChainName()
	}
	for _, ip := range p.balancerIPs {
		p.externalAddr(ip, "loadbalancer IP", chain)
		if p.restricted && p.eps.any {
			p.out.proxyFirewall = append(p.out.proxyFirewall, p.to(ip, "traffic not accepted by "+chain).to(p.firewallVerdict()))
		}
	}
	for _, ip := range p.closed {
		p.out.proxyFirewall = append(p.out.proxyFirewall, p.to(ip, "has no source range of this family").to(Drop))
	}
}

// firewallVerdict is the fate of what KUBE-FW let fall: dropped. Where policy
// Local leaves no endpoint that is everybody from outside, and the configuration
// may ask to reject that.
func (p *portRules) firewallVerdict() string {
	if p.cfg.RejectWithoutLocal && !p.served(p.svc.ExternalTrafficLocal) {
		return Reject
	}
	return Drop
}

// externalAddr leads traffic for an external address to a chain. Where policy
// Local leaves outsiders without an endpoint the chain still serves the node and
// its pods, and the others are refused.
func (p *portRules) externalAddr(ip netip.Addr, kind, chain string) {
	if p.eps.any {
		p.out.natServices = append(p.out.natServices, p.to(ip, kind).to(chain))
	}
	if !p.served(p.svc.ExternalTrafficLocal) {
		p.out.externalServices = append(p.out.externalServices, p.refuseAddr(ip))
	}
}

func (p *portRules) nodePort() {
	if p.port.NodePort == 0 {
		return
	}
	match := Rule{Comment: p.id, Protocol: p.port.Protocol, DstPort: Port(p.port.NodePort)}
	if p.eps.any {
		p.out.natNodePorts = append(p.out.natNodePorts, match.to(p.externalChainName()))
	}
	if !p.served(p.svc.ExternalTrafficLocal) {
		refuse := p.refuse(func(comment string) Rule {
			r := match
			r.Comment = p.id + " " + comment
			return r
		})
		p.out.externalServices = append(p.out.externalServices, p.toNode(refuse)...)
	}
}

// externalChain is KUBE-EXT: what traffic that came by an external address or a
// node port goes through before it is balanced.
func (p *portRules) externalChain() {
	if !p.eps.any || !p.reachableFromOutside() {
		return
	}
	c := &Chain{Name: p.externalChainName()}
	destinations := " traffic for " + p.id + " external destinations"
	if p.svc.ExternalTrafficLocal {
		if p.cfg.PodTraffic.known() {
			r := Rule{Comment: "pod" + destinations}.to(p.policyChain(false))
			c.Rules = append(c.Rules, p.cfg.PodTraffic.match(r, true))
		}
		c.Rules = slices.Concat(c.Rules,
			p.fromNode(Rule{Comment: "masquerade LOCAL" + destinations}.to(chainMarkMasq)),
			p.fromNode(Rule{Comment: "route LOCAL" + destinations}.to(p.policyChain(false))))
	} else {
		c.Rules = append(c.Rules, Rule{Comment: "masquerade" + destinations}.to(chainMarkMasq))
	}
	if local := p.svc.ExternalTrafficLocal; p.served(local) {
		c.Rules = append(c.Rules, Rule{}.to(p.policyChain(local)))
	}
	p.out.chains = append(p.out.chains, c)
}

// firewallChain is KUBE-FW: it lets the allowed sources on to KUBE-EXT. What
// comes back from it is dropped in filter KUBE-PROXY-FIREWALL.
func (p *portRules) firewallChain() {
	if !p.eps.any || !p.restricted || len(p.balancerIPs) == 0 {
		return
	}
	c := &Chain{Name: p.firewallChainName()}
	allow := func(from netip.Prefix) {
		r := Rule{Src: AddrMatch{Prefix: from}, Comment: p.id + " loadbalancer IP"}
		c.Rules = append(c.Rules, r.to(p.externalChainName()))
	}
	nodeAllowed := false
	for _, r := range p.sources {
		allow(r)
		nodeAllowed = nodeAllowed || containsAny(r, p.node.Addresses)
	}
	if nodeAllowed {
		// The node's own packets to a load balancer IP that it holds itself may
		// have that IP as their source.
		for _, ip := range p.balancerIPs {
			allow(only(ip))
		}
	}
	c.Rules = append(c.Rules, Rule{Comment: "other traffic to " + p.id + " will be dropped by " + chainProxyFirewall})
	p.out.chains = append(p.out.chains, c)
}

func containsAny(p netip.Prefix, addrs []netip.Addr) bool {
	for _, a := range addrs {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// balancers are KUBE-SVC and KUBE-SVL. The one that the cluster IP leads to
// begins with the masquerading of its traffic.
func (p *portRules) balancers() {
	if p.usesCluster() && len(p.eps.cluster) > 0 {
		p.balancer(false, p.eps.cluster)
	}
	if p.usesLocal() && len(p.eps.local) > 0 {
		p.balancer(true, p.eps.local)
	}
}

func (p *portRules) balancer(local bool, eps []Endpoint) {
	c := &Chain{Name: p.policyChain(local)}
	if p.svc.InternalTrafficLocal == local && p.reachableFromInside() {
		r := p.toClusterIP().to(chainMarkMasq)
		switch {
		case p.cfg.MasqueradeAll:
			c.Rules = append(c.Rules, r)
		case p.cfg.PodTraffic.hasOutsiders():
			c.Rules = append(c.Rules, p.cfg.PodTraffic.match(r, false))
		}
	}
	rules, buckets := balance(p, local, eps)
	c.Rules = append(c.Rules, rules...)
	p.out.chains = append(append(p.out.chains, c), buckets...)
}

// toClusterIP matches what came by the cluster IP, in a chain to which external
// addresses may lead too.
func (p *portRules) toClusterIP() Rule {
	if p.cfg.detail >= terse && !p.reachableFromOutside() {
		return Rule{}
	}
	r := p.to(p.clusterIPs[0], "cluster IP")
	if p.cfg.detail >= terse {
		r.Comment = ""
	}
	return r
}

// manyEndpoints is the number of endpoints of a port up to which their rules bear
// comments. iptables-nft calls a match for each comment that a packet comes by, and
// where endpoints are many their rules are hardly ever in the processor's cache: with
// comments a connection to one of 1,000 takes a microsecond longer.
const manyEndpoints = 128

// endpointComments reports whether the rules of the port's endpoints bear comments.
func (p *portRules) endpointComments() bool {
	return p.cfg.detail < terse && max(len(p.eps.cluster), len(p.eps.local)) <= manyEndpoints
}

// toEndpoint leads to an endpoint's chain.
func (p *portRules) toEndpoint(ep Endpoint) Rule {
	comment := ""
	if p.endpointComments() {
		comment = p.id + " -> " + ep.Addr.String()
	}
	return Rule{Comment: comment}.to(endpointChain(p.id, p.port.Protocol, ep.Addr))
}

// endpoints are the KUBE-SEP chains. An endpoint that reaches itself through the
// service must see another source than itself, or it would answer itself
// directly (hairpin).
func (p *portRules) endpoints() {
	comment := ""
	if p.endpointComments() {
		comment = p.id
	}
	for _, ep := range p.eps.reachable() {
		addr := ep.Addr.Addr()
		name := endpointChain(p.id, p.port.Protocol, ep.Addr)
		dnat := Rule{
			Comment:  comment,
			Protocol: p.port.Protocol,
			Target:   Target{Name: DNAT, ToDestination: ep.Addr},
		}
		if p.affinity() != 0 {
			dnat = dnat.With(Rare{Recent: Recent{Op: RecentSet, List: name}})
		}
		hairpin := Rule{Comment: comment, Src: AddrMatch{Prefix: only(addr)}}
		p.out.chains = append(p.out.chains, &Chain{Name: name, Rules: []Rule{hairpin.to(chainMarkMasq), dnat}})
	}
}

// healthCheck lets load balancers reach the Service's health check port.
func healthCheck(svc *Service, out *serviceRules) {
	if svc.HealthCheckNodePort == 0 || len(svc.Ports) == 0 {
		return
	}
	out.filterNodePorts = append(out.filterNodePorts, Rule{
		Comment:  svc.Namespace + "/" + svc.Name + " health check node port",
		Protocol: TCP,
		DstPort:  Port(svc.HealthCheckNodePort),
	}.to(Accept))
}
