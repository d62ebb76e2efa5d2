package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// catalogue is objects as the API has them, for what the rules do not say: it also
// has Services that no rule comes of, and says why.
type catalogue struct {
	from     string                      // where they are from, for people
	services []corev1.Service            // that come into question; all, if from files
	store    catalogueStore              // for the rest
	svc      *corev1.Service             // the one that the packet is for; nil: none is known
	slices   []discoveryv1.EndpointSlice // of svc
}

// catalogueStore finds further objects.
type catalogueStore interface {
	// names lists all Services as namespace/name.
	names(ctx context.Context) ([]string, error)
	slicesOf(ctx context.Context, svc *corev1.Service) ([]discoveryv1.EndpointSlice, error)
	// podsNamed lists the Pods of that name; namespace empty: in any.
	podsNamed(ctx context.Context, namespace, name string) ([]corev1.Pod, error)
	// snapshot is what the rules for a Service are made of, and what is wrong with it;
	// nil: for all there are.
	snapshot(ctx context.Context, svc *corev1.Service) (*rules.Snapshot, []watch.Problem, error)
}

// find looks for the Service that a packet is for, by its name or its address. It is
// an error if a name is not there, or there are several. An address need not be any
// Service's: then svc is nil.
func (c *catalogue) find(ctx context.Context, to *traceTo, protocol rules.Protocol) error {
	if to.addr.IsValid() {
		c.svc = c.owner(to, protocol)
	} else {
		svc, err := c.named(ctx, to)
		if err != nil {
			return err
		}
		c.svc = svc
	}
	if c.svc == nil {
		return nil
	}
	var err error
	c.slices, err = c.store.slicesOf(ctx, c.svc)
	return err
}

// named returns the Service of that name.
func (c *catalogue) named(ctx context.Context, to *traceTo) (*corev1.Service, error) {
	var found []*corev1.Service
	for i := range c.services {
		if s := &c.services[i]; s.Name == to.name && (to.namespace == "" || s.Namespace == to.namespace) {
			found = append(found, s)
		}
	}
	var names []string
	for _, s := range found {
		names = append(names, s.Namespace+"/"+s.Name)
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) == 0 {
		all, err := c.store.names(ctx)
		if err != nil {
			return nil, err
		}
		return nil, unknownService(to, all, c.from)
	}
	return nil, ambiguousService(to, names)
}

// unknownService is the error of a name that is none of all.
func unknownService(to *traceTo, all []string, from string) error {
	near := nearest(to.String(), all)
	for _, n := range all { // the right name in another namespace is nearer than any other
		if _, name, _ := strings.Cut(n, "/"); name == to.name && !slices.Contains(near, n) {
			near = append([]string{n}, near...)
		}
	}
	if to.namespace == "" {
		near = append(near, nearestBare(to.name, all)...)
	}
	near = distinctStrings(near)
	if len(near) == 0 {
		return fmt.Errorf("there is no Service %s in %s, and none of its %d has a name like that; --to takes NAMESPACE/SERVICE or IP:PORT", to, from, len(all))
	}
	return fmt.Errorf("there is no Service %s in %s; is it %s?", to, from, strings.Join(near[:min(len(near), 3)], " or "))
}

// nearestBare compares without namespaces.
func nearestBare(name string, all []string) []string {
	full := map[string]string{}
	var bare []string
	for _, n := range all {
		_, b, _ := strings.Cut(n, "/")
		bare, full[b] = append(bare, b), n
	}
	var out []string
	for _, b := range nearest(name, distinctStrings(bare)) {
		out = append(out, full[b])
	}
	return out
}

func distinctStrings(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func ambiguousService(to *traceTo, names []string) error {
	slices.Sort(names)
	return fmt.Errorf("there are %d Services called %s; say which: --to %s", len(names), to, strings.Join(names, " or --to "))
}

// owner returns the Service that has an address and port, or the port as its node
// port, or else the address and not the port; nil: there is none. Cluster IPs have no
// node ports. Whether another address is the node's is not known here.
func (c *catalogue) owner(to *traceTo, protocol rules.Protocol) *corev1.Service {
	var byClusterIP, byNodePort, byAddress *corev1.Service
	for i := range c.services {
		s := &c.services[i]
		if withoutRules(s) {
			continue
		}
		role, has := roleOf(s, to.addr)
		switch {
		case has && (to.port == "" || portOf(s, to.port, protocol) != nil):
			return s
		case has && role == roleClusterIP:
			byClusterIP = s
		case nodePortOf(s, to.number(), protocol) != nil:
			byNodePort = s
		case has && byAddress == nil:
			byAddress = s
		}
	}
	return cmp.Or(byClusterIP, byNodePort, byAddress)
}

// withoutRules: no rule is made for such a Service, by design.
func withoutRules(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone
}

// roleOf says in which role a Service has an address.
func roleOf(s *corev1.Service, addr netip.Addr) (role string, has bool) {
	in := func(texts []string) bool {
		return slices.ContainsFunc(texts, func(t string) bool { a, err := netip.ParseAddr(t); return err == nil && a == addr })
	}
	var balancer []string
	for _, i := range s.Status.LoadBalancer.Ingress {
		balancer = append(balancer, i.IP)
	}
	switch {
	case in(append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...)):
		return roleClusterIP, true
	case in(balancer):
		return roleBalancer, true
	case in(s.Spec.ExternalIPs):
		return roleExternal, true
	}
	return "", false
}

// The roles in which a Service has an address, as comments of rules have them.
const (
	roleClusterIP = "cluster IP"
	roleBalancer  = "loadbalancer IP"
	roleExternal  = "external IP"
	roleNodePort  = "node port"
)

// portOf returns a Service's port by its number or name; nil: it has none like that.
// protocol empty: any.
func portOf(s *corev1.Service, port string, protocol rules.Protocol) *corev1.ServicePort {
	to := traceTo{port: port}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if (p.Name == port && port != "" || uint16(p.Port) == to.number()) && (protocol == "" || protocolOf(p) == protocol) {
			return p
		}
	}
	return nil
}

func nodePortOf(s *corev1.Service, port uint16, protocol rules.Protocol) *corev1.ServicePort {
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if port != 0 && uint16(p.NodePort) == port && (protocol == "" || protocolOf(p) == protocol) {
			return p
		}
	}
	return nil
}

func protocolOf(p *corev1.ServicePort) rules.Protocol {
	return rules.Protocol(strings.ToLower(cmp.Or(string(p.Protocol), string(corev1.ProtocolTCP))))
}

// describePorts lists a Service's ports for people.
func describePorts(s *corev1.Service) string {
	var out []string
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		text := fmt.Sprintf("%d/%s", p.Port, protocolOf(p))
		if p.Name != "" {
			text = p.Name + " " + text
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// pod returns the one of that name.
func (c *catalogue) pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	pods, err := c.store.podsNamed(ctx, namespace, name)
	if err != nil {
		return nil, fmt.Errorf("look for Pod %s: %w; give its address: --from IP", name, err)
	}
	switch len(pods) {
	case 0:
		return nil, fmt.Errorf("there is no Pod %s in %s; give its address: --from IP", strings.TrimPrefix(namespace+"/"+name, "/"), c.from)
	case 1:
		return &pods[0], nil
	}
	var names []string
	for _, p := range pods {
		names = append(names, "pod/"+p.Namespace+"/"+p.Name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("there are %d Pods called %s; say which: --from %s", len(pods), name, strings.Join(names, " or --from "))
}
