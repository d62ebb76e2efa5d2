package watch

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"svcproxy/pkg/rules"
)

const (
	labelProxyName      = "service.kubernetes.io/service-proxy-name"
	defaultAffinity     = 10800 // seconds, the API's default
	maxAffinity         = 86400 // seconds, the API's limit
	fieldSourceRanges   = "spec.loadBalancerSourceRanges"
	fieldClusterIPs     = "spec.clusterIPs"
	notAssigned         = "not assigned yet, the Service is left out"
	reasonNotPortNumber = "must be 1 to 65535"
)

// bareService is what counts of a Service itself.
type bareService struct {
	ident
	created int64 // microseconds, at the least if unknown

	// value is nil for a Service that is not ours to serve. Its endpoints say
	// nothing: it is made without them, and the index puts what it made of it in
	// its place, so that both are not kept.
	value    *rules.Service
	problems []Problem
}

// convertService reads a Service. Not ours to serve is one that is headless,
// ExternalName, somebody else's by label, or without any usable cluster IP.
func convertService(api *corev1.Service) *bareService {
	c := &serviceConverter{api: api, problems: problems{object: api.Namespace + "/" + api.Name}}
	s := &bareService{ident: identOf(&api.ObjectMeta), created: api.CreationTimestamp.UnixMicro()}
	s.value = c.convert(s.key)
	s.problems = c.list
	return s
}

// same compares what is the Service's own.
func (s *bareService) same(o *bareService) bool {
	return s.created == o.created && slices.Equal(s.problems, o.problems) &&
		sameButEndpoints(s.value, o.value)
}

func sameButEndpoints(a, b *rules.Service) bool {
	if a == nil || b == nil {
		return a == b
	}
	return reflect.DeepEqual(rules.WithoutEndpoints(a), rules.WithoutEndpoints(b))
}

// join adds the endpoints of all slices, which are sorted by name.
func (s *bareService) join(all []*endpointSlice) (*rules.Service, []Problem) {
	if s.value == nil {
		return nil, s.problems
	}
	out := *s.value
	c := endpointCollector{clusterIPs: out.ClusterIPs}
	out.Ports = c.collect(out.Ports, all)
	return &out, slices.Concat(s.problems, c.problems)
}

type serviceConverter struct {
	problems
	api *corev1.Service
	out *rules.Service
}

func (c *serviceConverter) convert(k key) *rules.Service {
	if _, others := c.api.Labels[labelProxyName]; others || c.api.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if !c.validNames() {
		return nil
	}
	ips := c.clusterIPs()
	if len(ips) == 0 {
		return nil
	}
	c.out = &rules.Service{Namespace: k.namespace, Name: k.name, ClusterIPs: ips}
	c.externalIPs()
	c.loadBalancer()
	c.affinity()
	c.ports()
	c.policies()
	return c.out
}

// validNames keeps out what the API server would not have stored: names end up
// in comments and logs.
func (c *serviceConverter) validNames() bool {
	ok := true
	if errs := validation.IsDNS1123Label(c.api.Namespace); len(errs) > 0 {
		c.add("metadata.namespace", c.api.Namespace, errs[0])
		ok = false
	}
	if errs := validation.IsDNS1123Label(c.api.Name); len(errs) > 0 {
		c.add("metadata.name", c.api.Name, errs[0])
		ok = false
	}
	return ok
}

func (c *serviceConverter) clusterIPs() []netip.Addr {
	spec := &c.api.Spec
	field, texts := fieldClusterIPs, spec.ClusterIPs
	if len(texts) == 0 {
		field, texts = "spec.clusterIP", []string{spec.ClusterIP}
	}
	switch texts[0] {
	case corev1.ClusterIPNone:
		return nil
	case "":
		c.list = append(c.list, Problem{Object: c.object, Field: "spec.clusterIP", Reason: notAssigned, Skipped: true})
		return nil
	}
	var ips []netip.Addr
	for _, s := range texts {
		a, reason := parseUnicast(s)
		if reason == "" && slices.ContainsFunc(ips, func(o netip.Addr) bool { return rules.FamilyOf(o) == rules.FamilyOf(a) }) {
			reason = "is the second of its family"
		}
		if reason != "" {
			c.add(field, s, reason)
			continue
		}
		ips = append(ips, a)
	}
	return ips
}

func (c *serviceConverter) externalIPs() {
	for i, s := range c.api.Spec.ExternalIPs {
		if a, reason := parseUnicast(s); reason != "" {
			c.add(fmt.Sprintf("spec.externalIPs[%d]", i), s, reason)
		} else {
			c.out.ExternalIPs = append(c.out.ExternalIPs, a)
		}
	}
	c.out.ExternalIPs = sortAddrs(c.out.ExternalIPs)
}

// loadBalancer takes the addresses that the node itself must serve: those whose
// balancer sends packets with the address still in them (ipMode VIP, KEP-1860).
func (c *serviceConverter) loadBalancer() {
	for i, in := range c.api.Status.LoadBalancer.Ingress {
		if in.IP == "" || in.IPMode != nil && *in.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		if a, reason := parseUnicast(in.IP); reason != "" {
			c.add(fmt.Sprintf("status.loadBalancer.ingress[%d].ip", i), in.IP, reason)
		} else {
			c.out.LoadBalancerIPs = append(c.out.LoadBalancerIPs, a)
		}
	}
	c.out.LoadBalancerIPs = sortAddrs(c.out.LoadBalancerIPs)
	for i, s := range c.api.Spec.LoadBalancerSourceRanges {
		s = strings.TrimSpace(s)
		c.out.RestrictSources = true
		r, reason := parseRange(s)
		switch {
		case reason != "":
			c.add(fmt.Sprintf("%s[%d]", fieldSourceRanges, i), s, reason)
		case !slices.Contains(c.out.SourceRanges, r):
			c.out.SourceRanges = append(c.out.SourceRanges, r)
		}
	}
	c.remarkClosed()
}

// remarkClosed tells that nobody may use a load balancer address, since all
// source ranges are of the other family (or none is valid).
func (c *serviceConverter) remarkClosed() {
	if !c.out.RestrictSources {
		return
	}
	for i, in := range c.out.LoadBalancerIPs {
		f := rules.FamilyOf(in)
		open := slices.ContainsFunc(c.out.SourceRanges, func(r netip.Prefix) bool { return rules.FamilyOf(r.Addr()) == f })
		first := i == 0 || rules.FamilyOf(c.out.LoadBalancerIPs[i-1]) != f
		if !open && first {
			c.list = append(c.list, Problem{Object: c.object, Field: fieldSourceRanges, Value: in.String(), Skipped: true,
				Reason: "no range is an " + f.String() + " one, so nobody may use this address"})
		}
	}
}

func (c *serviceConverter) affinity() {
	if c.api.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return
	}
	c.out.AffinitySeconds = defaultAffinity
	cfg := c.api.Spec.SessionAffinityConfig
	if cfg == nil || cfg.ClientIP == nil || cfg.ClientIP.TimeoutSeconds == nil {
		return
	}
	if s := *cfg.ClientIP.TimeoutSeconds; s < 1 || s > maxAffinity {
		c.add("spec.sessionAffinityConfig.clientIP.timeoutSeconds", strconv.Itoa(int(s)),
			fmt.Sprintf("must be 1 to %d, using %d", maxAffinity, defaultAffinity))
	} else {
		c.out.AffinitySeconds = uint32(s)
	}
}

// ports takes the valid ports; of two that clash the first one counts.
func (c *serviceConverter) ports() {
	for i := range c.api.Spec.Ports {
		in := &c.api.Spec.Ports[i]
		field := fmt.Sprintf("spec.ports[%d]", i)
		p := rules.ServicePort{Name: intern(in.Name), Port: uint16(in.Port)}
		protocol, ok := convertProtocol(in.Protocol)
		p.Protocol = protocol
		switch {
		case !ok:
			c.add(field+".protocol", string(in.Protocol), "must be TCP, UDP or SCTP")
			continue
		case !validPort(in.Port):
			c.add(field+".port", strconv.Itoa(int(in.Port)), reasonNotPortNumber)
			continue
		case in.Name != "" && len(validation.IsDNS1123Label(in.Name)) > 0:
			c.add(field+".name", in.Name, validation.IsDNS1123Label(in.Name)[0])
			continue
		}
		if clash := c.clash(&p); clash != "" {
			c.add(field, in.Name, clash)
			continue
		}
		if in.NodePort != 0 && c.hasNodePorts() {
			if validPort(in.NodePort) {
				p.NodePort = uint16(in.NodePort)
			} else {
				c.add(field+".nodePort", strconv.Itoa(int(in.NodePort)), reasonNotPortNumber)
			}
		}
		c.out.Ports = append(c.out.Ports, p)
	}
}

func (c *serviceConverter) clash(p *rules.ServicePort) string {
	for _, o := range c.out.Ports {
		if o.Name == p.Name {
			return "another port has the same name"
		}
		if o.Port == p.Port && o.Protocol == p.Protocol {
			return fmt.Sprintf("port %d/%s is taken by another port", p.Port, p.Protocol)
		}
	}
	return ""
}

func (c *serviceConverter) hasNodePorts() bool {
	t := c.api.Spec.Type
	return t == corev1.ServiceTypeNodePort || t == corev1.ServiceTypeLoadBalancer
}

func (c *serviceConverter) policies() {
	spec := &c.api.Spec
	local := spec.InternalTrafficPolicy
	c.out.InternalTrafficLocal = local != nil && *local == corev1.ServiceInternalTrafficPolicyLocal
	external := c.hasNodePorts() || len(spec.ExternalIPs) > 0
	c.out.ExternalTrafficLocal = external && spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if p := spec.HealthCheckNodePort; p != 0 && spec.Type == corev1.ServiceTypeLoadBalancer && c.out.ExternalTrafficLocal {
		if validPort(p) {
			c.out.HealthCheckNodePort = uint16(p)
		} else {
			c.add("spec.healthCheckNodePort", strconv.Itoa(int(p)), reasonNotPortNumber)
		}
	}
}

func validPort(p int32) bool { return p >= 1 && p <= 65535 }

// convertProtocol reads a protocol; none means TCP, as the API defaults it.
func convertProtocol(p corev1.Protocol) (rules.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return rules.TCP, true
	case corev1.ProtocolUDP:
		return rules.UDP, true
	case corev1.ProtocolSCTP:
		return rules.SCTP, true
	}
	return "", false
}
