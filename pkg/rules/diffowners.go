package rules

import "strings"

// whose knows which Service a chain, or a rule in a shared chain, belongs to. What is
// wanted was made for Services. Of what is not, names of chains and comments tell, and
// who leads there: a chain of an endpoint that is gone has a name that says nothing.
type whose struct {
	services []*Service
	have     *Ruleset
	wanted   map[TableName]owners
	hashes   map[string]string // what is behind the prefix in the names of a port's chains
	leads    map[string]lead   // to each chain of nat that the kernel has
}

// lead is a rule that leads to a chain, and the chain that it is in.
type lead struct {
	from string
	rule *Rule
}

func (b *Builder) whose(have *Ruleset) *whose {
	w := &whose{services: b.snap.Services, have: have, wanted: map[TableName]owners{}, hashes: map[string]string{}, leads: map[string]lead{}}
	for _, t := range Tables() {
		w.wanted[t] = b.owners(t)
	}
	for _, svc := range b.snap.Services {
		for i := range svc.Ports {
			p := &svc.Ports[i]
			w.hashes[serviceHash(svc.ID(p), p.Protocol)] = svc.Namespace + "/" + svc.Name
		}
	}
	for _, c := range have.Table(Nat).Chains {
		for i := range c.Rules {
			if to := c.Rules[i].Jump(); to != "" && w.leads[to].rule == nil {
				w.leads[to] = lead{c.Name, &c.Rules[i]}
			}
		}
	}
	return w
}

// chain returns namespace/name of the Service that a chain belongs to; empty if it
// is of no single one, or of one that nothing tells the name of.
func (w *whose) chain(t TableName, name string) string { return w.chainFrom(t, name, maxDepth) }

func (w *whose) chainFrom(t TableName, name string, depth int) string {
	if t != Nat || isShared(t, name) || depth == 0 || !hasAnyPrefix(name, prefixService, prefixLocal, prefixExternal, prefixFirewall, prefixEndpoint) {
		return ""
	}
	if i, ok := w.wanted[t].chains[name]; ok {
		return w.services[i].Namespace + "/" + w.services[i].Name
	}
	if svc := w.hashes[portHash(name)]; svc != "" {
		return svc
	}
	if c := w.have.Table(t).Chain(name); c != nil {
		for i := range c.Rules {
			if svc := serviceIn(c.Rules[i].Comment); svc != "" {
				return svc
			}
		}
	}
	by := w.leads[name]
	if by.rule == nil {
		return ""
	}
	if svc := serviceIn(by.rule.Comment); svc != "" {
		return svc
	}
	return w.chainFrom(t, by.from, depth-1)
}

// rule returns namespace/name of the Service that a rule of a shared chain is for;
// empty if it is for several or nothing tells.
func (w *whose) rule(t TableName, r *Rule) string {
	if i, ok := w.wanted[t].rules[*r]; ok {
		return w.services[i].Namespace + "/" + w.services[i].Name
	}
	if svc := serviceIn(r.Comment); svc != "" {
		return svc
	}
	return w.chain(t, r.Jump())
}

// isShared reports whether a chain holds rules of many Services, or leads on to such
// chains.
func isShared(t TableName, chain string) bool {
	for i := range sharedChains {
		if c := &sharedChains[i]; c.table == t && (chain == c.root || strings.HasPrefix(chain, c.prefix)) {
			return true
		}
	}
	return false
}

// hashLength is that of what shortHash returns.
const hashLength = 16

// portHash is the hash of a service port in a chain's name; empty if it has none.
func portHash(chain string) string {
	for _, prefix := range []string{prefixService, prefixLocal, prefixExternal, prefixFirewall} {
		if rest, ok := strings.CutPrefix(chain, prefix); ok && len(rest) >= hashLength {
			return rest[:hashLength]
		}
	}
	return ""
}

// serviceIn returns the Service that a comment of ours or of kube-proxy's names, as
// namespace/name or namespace/name:port; empty if it names none.
func serviceIn(comment string) string {
	for word := range strings.FieldsSeq(comment) {
		namespace, name, ok := strings.Cut(word, "/")
		name, _, _ = strings.Cut(name, ":")
		if ok && namespace != "" && name != "" && !strings.Contains(name, "/") {
			return namespace + "/" + name
		}
	}
	return ""
}
