package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"svcproxy/pkg/rules"
)

// aim works out what the packet is for, and reads the rules of its family. A Service
// without any address ends the trace: see noRules.
func (t *tracer) aim(ctx context.Context) error {
	if t.cat != nil && t.cat.svc != nil {
		if err := t.aimAtService(t.cat.svc); err != nil || t.report.noRules {
			return err
		}
	}
	var missed error // that of the first family which has rules
	for _, f := range t.families() {
		layers, from, err := t.source.layers(ctx, f)
		if err == nil {
			t.layers, t.report.Rules = layers, from
			if err = t.aimByRules(); err == nil {
				return nil
			}
		} else if missed == nil && !errors.Is(err, errNoRules) {
			return err
		}
		if missed == nil || errors.Is(missed, errNoRules) {
			missed = err
		}
	}
	return missed
}

// families are those that the packet may be of, the likelier one first.
func (t *tracer) families() []rules.Family {
	switch {
	case t.report.To.Addr.IsValid():
		return []rules.Family{rules.FamilyOf(t.report.To.Addr.Addr())}
	case t.to.addr.IsValid():
		return []rules.Family{rules.FamilyOf(t.to.addr)}
	}
	return t.options.families
}

// aimAtService fills in what the Service's object says. An address that was asked for
// stays.
func (t *tracer) aimAtService(svc *corev1.Service) error {
	to := &t.report.To
	if t.to.addr.IsValid() && !t.ownsPort(svc) {
		t.cat.svc, t.cat.slices = nil, nil // the packet has nothing to do with it
		return nil
	}
	to.Service = svc.Namespace + "/" + svc.Name
	if t.hasNoAddress(svc) {
		return nil
	}
	addr := t.to.addr
	if !addr.IsValid() {
		a, err := t.clusterIP(svc)
		if err != nil {
			return err
		}
		addr = a
	}
	to.Role, _ = roleOf(svc, addr)
	port := portOf(svc, t.to.port, t.protocol)
	if nodePort := nodePortOf(svc, t.to.number(), t.protocol); to.Role == "" || port == nil && nodePort != nil && t.here(addr) {
		to.Role, port = roleNodePort, nodePort
	}
	if port == nil && t.to.port == "" && len(svc.Spec.Ports) == 1 {
		port = &svc.Spec.Ports[0]
	}
	return t.aimAtPort(svc, addr, port)
}

// ownsPort reports whether an address is the Service's, or the port is a node port of
// its on an address of this node.
func (t *tracer) ownsPort(svc *corev1.Service) bool {
	_, has := roleOf(svc, t.to.addr)
	return has || t.here(t.to.addr)
}

// here reports whether an address is the node's.
func (t *tracer) here(addr netip.Addr) bool {
	return slices.Contains(t.nodeIPs, addr) || addr.IsLoopback()
}

// clusterIP is the one of the family that is asked for, or the first.
func (t *tracer) clusterIP(svc *corev1.Service) (netip.Addr, error) {
	for _, text := range append(slices.Clone(svc.Spec.ClusterIPs), svc.Spec.ClusterIP) {
		if a, err := netip.ParseAddr(text); err == nil && slices.Contains(t.options.families, rules.FamilyOf(a)) {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("the Service %s/%s has no cluster IP of %s; it has %s", svc.Namespace, svc.Name,
		t.options.families[0], strings.Join(svc.Spec.ClusterIPs, ", "))
}

// aimAtPort takes a port of the Service; nil: the one that is asked for is none of
// its, or none is asked for and it has several.
func (t *tracer) aimAtPort(svc *corev1.Service, addr netip.Addr, port *corev1.ServicePort) error {
	to := &t.report.To
	switch {
	case port != nil:
		number := port.Port
		if to.Role == roleNodePort {
			number = port.NodePort
		}
		to.Addr, to.Port, t.report.Protocol = netip.AddrPortFrom(addr, uint16(number)), port.Name, protocolOf(port)
	case t.to.number() != 0:
		to.Addr = netip.AddrPortFrom(addr, t.to.number())
		t.report.Protocol = cmp.Or(t.protocol, rules.TCP)
	case t.to.port != "":
		return fmt.Errorf("the Service %s/%s has no port %s; it has %s", svc.Namespace, svc.Name, t.to.port, describePorts(svc))
	default:
		return fmt.Errorf("the Service %s/%s has several ports; say which, as in --to %s/%s:%d: it has %s",
			svc.Namespace, svc.Name, svc.Namespace, svc.Name, svc.Spec.Ports[0].Port, describePorts(svc))
	}
	return nil
}

// aimByRules fills in what the rules say, as far as the objects did not.
func (t *tracer) aimByRules() error {
	to := &t.report.To
	if to.Addr.IsValid() {
		return nil
	}
	var found []portal
	if t.to.addr.IsValid() {
		found = portalsAt(t.layers, t.to.addr)
	} else if found = portalsOf(t.layers, &t.to); len(found) == 0 {
		return t.notInRules()
	} else if err := t.oneService(found); err != nil {
		return err
	}
	p := t.pick(found)
	if p == nil {
		return t.bareAddress(found)
	}
	to.Addr, to.Role, to.Service, to.Port = netip.AddrPortFrom(p.addr, p.port), p.role, p.service(), p.portName()
	t.report.Protocol = p.protocol
	return nil
}

// notInRules is the error of a name that no rule has.
func (t *tracer) notInRules() error {
	names := portalNames(t.layers)
	if len(names) == 0 {
		return fmt.Errorf("no rule leads to any Service, so none is known by its name: does a service proxy run there, in iptables mode? With -f or --kubeconfig trace knows Services without their rules; --to also takes IP:PORT")
	}
	return unknownService(&t.to, names, "the rules")
}

// oneService: a name without a namespace may be that of several.
func (t *tracer) oneService(found []portal) error {
	var names []string
	for _, p := range found {
		if !slices.Contains(names, p.service()) {
			names = append(names, p.service())
		}
	}
	if len(names) > 1 {
		return ambiguousService(&t.to, names)
	}
	return nil
}

// pick returns the portal that is asked for, cluster IPs first; nil: none fits, or
// several ports do.
func (t *tracer) pick(found []portal) *portal {
	fits := func(p portal) bool {
		return (t.protocol == "" || p.protocol == t.protocol) &&
			(t.to.port == "" || p.port == t.to.number() || p.portName() == t.to.port && p.id != "")
	}
	var out *portal
	for i := range found {
		p := &found[i]
		switch {
		case !fits(*p):
		case out == nil, out.role != roleClusterIP && p.role == roleClusterIP:
			out = p
		case t.to.port == "" && p.addr == out.addr && (p.port != out.port || p.protocol != out.protocol):
			return nil
		}
	}
	return out
}

// bareAddress takes an address with a port that no rule has.
func (t *tracer) bareAddress(found []portal) error {
	to := &t.report.To
	addr := t.to.addr
	if !addr.IsValid() {
		addr = found[0].addr
		to.Service = found[0].service()
	}
	if t.to.number() == 0 {
		return t.noPort(found, addr)
	}
	for _, p := range found {
		if p.addr == addr && p.id != "" {
			to.Service, to.Role = p.service(), p.role
		}
	}
	to.Addr = netip.AddrPortFrom(addr, t.to.number())
	t.report.Protocol = cmp.Or(t.protocol, rules.TCP)
	return nil
}

// noPort is the error of an address that has no port, or several.
func (t *tracer) noPort(found []portal, addr netip.Addr) error {
	port := uint16(80)
	if i := slices.IndexFunc(found, func(p portal) bool { return p.addr == addr }); i >= 0 {
		port = found[i].port
	}
	what, example := addr.String(), netip.AddrPortFrom(addr, port).String()
	if name := t.to.String(); name != "" {
		what, example = name, fmt.Sprintf("%s:%d", name, port)
	}
	return fmt.Errorf("--to %s: say which port, as in --to %s%s", what, example, portsFound(found, addr))
}

// portsFound lists the ports that rules have for an address.
func portsFound(found []portal, addr netip.Addr) string {
	var ports []string
	for _, p := range found {
		text := strconv.Itoa(int(p.port)) + "/" + string(p.protocol)
		if p.addr == addr && !slices.Contains(ports, text) {
			ports = append(ports, text)
		}
	}
	if len(ports) == 0 {
		return ""
	}
	return "; it has " + strings.Join(ports, ", ")
}
