package status

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"svcproxy/pkg/rules"
)

// FromRules reads the Services out of the rules that the kernel has for one family,
// ours or kube-proxy's. What rules do not say is empty: which endpoints there are
// besides those used, their nodes, and above 10,000 endpoints the names; then a
// Service is named by its chain.
func FromRules(rs *rules.Ruleset) []Service {
	r := &ruleReader{nat: rs.Table(rules.Nat), family: rs.Family, ports: map[portKey]*chainPort{}}
	r.readNat()
	r.readFilter(rs.Table(rules.Filter))
	return r.services()
}

// portKey tells ports of the same Service apart, or of Services without a name.
type portKey struct {
	id       string // namespace/name[:port], or a chain
	protocol rules.Protocol
}

// chainPort is a port, as far as it was read.
type chainPort struct {
	id     string
	port   Port
	chains []string // that balance
}

type ruleReader struct {
	nat    *rules.Table
	family rules.Family
	ports  map[portKey]*chainPort
	order  []*chainPort
}

// readNat takes in the rules that lead to the chains of Services, wherever they are.
func (r *ruleReader) readNat() {
	for _, c := range r.nat.Chains {
		if _, own := Owner(c.Name); own {
			continue
		}
		for i := range c.Rules {
			if rule := &c.Rules[i]; rule.DstPort.First != 0 {
				if _, own := Owner(rule.Jump()); own {
					r.entry(rule)
				}
			}
		}
	}
}

// readFilter takes in the ports that are refused.
func (r *ruleReader) readFilter(t *rules.Table) {
	for _, c := range t.Chains {
		for i := range c.Rules {
			rule := &c.Rules[i]
			id, why, ok := strings.Cut(rule.Comment, " ")
			if !ok || rule.DstPort.First == 0 || !strings.HasPrefix(why, "has no ") {
				continue
			}
			refused := RefusedAll
			p := r.at(id, rule)
			if why == "has no local endpoints" && len(p.chains) > 0 {
				refused = RefusedOutside
			}
			r.refuse(p, rule, refusedRole(c.Name), refused)
		}
	}
}

// at returns the port that a rule is about.
func (r *ruleReader) at(id string, rule *rules.Rule) *chainPort {
	key := portKey{id, rule.Protocol}
	p := r.ports[key]
	if p == nil {
		p = &chainPort{id: id, port: Port{Protocol: string(rule.Protocol), Addresses: []Address{}}}
		r.ports[key] = p
		r.order = append(r.order, p)
	}
	return p
}

// entry takes in a rule that leads to a chain of a Service.
func (r *ruleReader) entry(rule *rules.Rule) {
	id, kind, _ := strings.Cut(rule.Comment, " ")
	if id == "" {
		owner, _ := Owner(rule.Jump())
		id = owner
	}
	p := r.at(id, rule)
	a := Address{Family: r.family.String(), Chain: rule.Jump(), Role: roleOf(kind), Address: ":" + strconv.Itoa(int(rule.DstPort.First))}
	if rule.Dst.Prefix.IsValid() {
		a.Address = netip.AddrPortFrom(rule.Dst.Prefix.Addr(), rule.DstPort.First).String()
		p.port.Port = rule.DstPort.First
	} else {
		a.Role, p.port.NodePort = "NodePort", rule.DstPort.First
	}
	if !slices.Contains(p.port.Addresses, a) {
		p.port.Addresses = append(p.port.Addresses, a)
	}
	r.follow(p, rule.Jump(), 0)
}

// roleOf reads what a comment says behind the name. Rules for cluster IPs may have none.
func roleOf(kind string) string {
	switch kind {
	case "external IP":
		return "ExternalIP"
	case "loadbalancer IP":
		return "LoadBalancerIP"
	}
	return "ClusterIP"
}

// maxFollowed bounds the chains between an address and what balances: KUBE-FW,
// KUBE-EXT, and one to be sure.
const maxFollowed = 3

// follow finds the chains that balance behind a chain.
func (r *ruleReader) follow(p *chainPort, chain string, depth int) {
	if strings.HasPrefix(chain, "KUBE-SVC-") || strings.HasPrefix(chain, "KUBE-SVL-") {
		r.balance(p, chain)
		return
	}
	c := r.nat.Chain(chain)
	if c == nil || depth == maxFollowed {
		return
	}
	for i := range c.Rules {
		if _, own := Owner(c.Rules[i].Jump()); own {
			r.follow(p, c.Rules[i].Jump(), depth+1)
		}
	}
}

// balance takes in a chain that spreads connections.
func (r *ruleReader) balance(p *chainPort, chain string) {
	c := r.nat.Chain(chain)
	if c == nil || slices.Contains(p.chains, chain) {
		return
	}
	p.chains = append(p.chains, chain)
	b := Balance{Family: r.family.String(), Policy: policy(strings.HasPrefix(chain, "KUBE-SVL-")), Chain: chain}
	r.spread(p, &b, c, 1)
	p.port.Balances = append(p.port.Balances, b)
}

// spread takes in the rules that give endpoints, or buckets of them, a part each of
// what a chain gets. Rules for the affinity of clients give none.
func (r *ruleReader) spread(p *chainPort, b *Balance, c *rules.Chain, part float64) {
	for i := range c.Rules {
		rule := &c.Rules[i]
		to := r.nat.Chain(rule.Jump())
		if to == nil || rule.Rare().Recent.Op == rules.RecentCheck || strings.HasPrefix(to.Name, b.Chain+"s") {
			continue
		}
		bucket := strings.HasPrefix(to.Name, b.Chain)
		if !bucket && !strings.HasPrefix(to.Name, "KUBE-SEP-") {
			continue
		}
		mine := part
		if rule.Statistic != 0 {
			mine *= rule.Statistic.Float()
		}
		part -= mine
		if bucket {
			r.spread(p, b, to, mine)
		} else {
			r.endpoint(p, b, to, mine)
		}
	}
}

func (r *ruleReader) endpoint(p *chainPort, b *Balance, c *rules.Chain, part float64) {
	for i := range c.Rules {
		to := c.Rules[i].Target.ToDestination
		if !to.IsValid() {
			continue
		}
		b.Endpoints++
		address := to.String()
		at := slices.IndexFunc(p.port.Endpoints, func(e Endpoint) bool { return e.Address == address })
		if at < 0 {
			at = len(p.port.Endpoints)
			p.port.Endpoints = append(p.port.Endpoints, Endpoint{Family: b.Family, Address: address, Chain: c.Name})
		}
		e := &p.port.Endpoints[at]
		e.Shares = append(e.Shares, Share{Policy: b.Policy, Wanted: part})
		return
	}
}

// refusedRole is what addresses are that a chain of filter refuses; empty: they may be
// external or a load balancer's.
func refusedRole(chain string) string {
	switch {
	case strings.HasPrefix(chain, "KUBE-EXTERNAL-"):
		return ""
	case strings.HasPrefix(chain, "KUBE-PROXY-FIREWALL"), strings.HasPrefix(chain, "KUBE-PFW-"):
		return "LoadBalancerIP"
	}
	return "ClusterIP"
}

// refuse takes in a rule that refuses an address of a port.
func (r *ruleReader) refuse(p *chainPort, rule *rules.Rule, role, refused string) {
	address := ":" + strconv.Itoa(int(rule.DstPort.First))
	if rule.Dst.Prefix.IsValid() {
		address = netip.AddrPortFrom(rule.Dst.Prefix.Addr(), rule.DstPort.First).String()
		p.port.Port = rule.DstPort.First
	} else {
		role, p.port.NodePort = "NodePort", rule.DstPort.First
	}
	for i := range p.port.Addresses {
		if a := &p.port.Addresses[i]; a.Address == address {
			a.Refused = refused
			return
		}
	}
	p.port.Addresses = append(p.port.Addresses, Address{Family: r.family.String(), Role: role, Address: address, Refused: refused})
}

// services groups the ports by Service, sorted by name.
func (r *ruleReader) services() []Service {
	byName := map[Name]*Service{}
	var out []*Service
	for _, p := range r.order {
		name, port := splitID(p.id)
		s := byName[name]
		if s == nil {
			s = &Service{Namespace: name.Namespace, Name: name.Name}
			byName[name] = s
			out = append(out, s)
		}
		p.port.Name = port
		s.Ports = append(s.Ports, p.port)
	}
	sorted := make([]Service, len(out))
	for i, s := range out {
		sorted[i] = *s
	}
	slices.SortFunc(sorted, compareServices)
	return sorted
}

// splitID reads namespace/name[:port]; what is none is a name without a namespace.
func splitID(id string) (Name, string) {
	namespace, rest, ok := strings.Cut(id, "/")
	if !ok {
		return Name{Name: id}, ""
	}
	name, port, _ := strings.Cut(rest, ":")
	return Name{namespace, name}, port
}

func compareServices(a, b Service) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// Merge joins what two families' rules say. Both are sorted by name.
func Merge(a, b []Service) []Service {
	out := make([]Service, 0, max(len(a), len(b)))
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && compareServices(a[0], b[0]) < 0:
			out, a = append(out, a[0]), a[1:]
		case len(a) == 0 || compareServices(b[0], a[0]) < 0:
			out, b = append(out, b[0]), b[1:]
		default:
			out, a, b = append(out, join(a[0], b[0])), a[1:], b[1:]
		}
	}
	return out
}

func join(a, b Service) Service {
	for i := range b.Ports {
		p := &b.Ports[i]
		have := a.port(p)
		if have == nil {
			a.Ports = append(a.Ports, *p)
			continue
		}
		have.Addresses = append(have.Addresses, p.Addresses...)
		have.Balances = append(have.Balances, p.Balances...)
		have.Endpoints = append(have.Endpoints, p.Endpoints...)
	}
	return a
}
