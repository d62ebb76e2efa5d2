package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"svcproxy/pkg/kernel"
	"svcproxy/pkg/rules"
)

// The codes of reasons that are found in rules and objects; docs/trace.md explains
// each.
const (
	codeHeadless       = "headless"
	codeExternalName   = "external-name"
	codeNoClusterIP    = "no-cluster-ip"
	codeOtherProxy     = "other-proxy"
	codeNoEndpoints    = "no-endpoints"
	codeNotReady       = "endpoints-not-ready"
	codePortUnmatched  = "endpoints-lack-port"
	codeNoLocal        = "no-local-endpoints"
	codePortNotDefined = "port-not-defined"
	codeNodePortClosed = "node-port-closed"
	codeNoService      = "no-such-service-address"
	codeSourceRanges   = "source-ranges"
	codeLoopbackGuard  = "loopback-guard"
	codeForeignDrop    = "foreign-drop"
	codePolicyDrop     = "policy-drop"
	codeQuarantined    = "quarantined"
	codeRulesMissing   = "rules-missing"
	codeRulesDiffer    = "rules-differ"
	codeNotUnderstood  = "not-understood"
	codeUnreadable     = "table-unreadable"
	codeBackendOrder   = "backend-order"
	codeRefused        = "refused"

	// Of a connection that was tried. Those of the way behind the rules are kernel.Reason.
	codeEndpointRefuses = "endpoint-refuses"
	codeEndpointSilent  = "endpoint-silent"
)

// hasNoAddress reports whether no rule is made for a Service, and why.
func (t *tracer) hasNoAddress(svc *corev1.Service) bool {
	r, name := t.report, svc.Namespace+"/"+svc.Name
	get := fmt.Sprintf("kubectl -n %s get service %s -o yaml", svc.Namespace, svc.Name)
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		r.because(codeExternalName, fmt.Sprintf("%s is an ExternalName Service: DNS answers with the name %s, and no rule is made; packets go where that name leads.", name, svc.Spec.ExternalName), get)
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		r.because(codeHeadless, fmt.Sprintf("%s is headless (clusterIP: None): DNS answers with the addresses of its pods, and no rule is made; packets go straight to %s.", name, t.endpointAddresses()), t.slicesCommand())
	case svc.Spec.ClusterIP == "" && len(svc.Spec.ClusterIPs) == 0:
		r.because(codeNoClusterIP, fmt.Sprintf("%s has no cluster IP yet, so no rule is made.", name), get)
	default:
		return false
	}
	r.noRules = true
	r.Arrives = arrivesUnknown
	r.Sentence = r.Reasons[0].Sentence
	return true
}

// endpointAddresses lists what the Service's slices have.
func (t *tracer) endpointAddresses() string {
	var at []netip.AddrPort
	for _, s := range t.cat.slices {
		for _, e := range s.Endpoints {
			for _, text := range e.Addresses[:min(len(e.Addresses), 1)] {
				a, err := netip.ParseAddr(text)
				if err == nil && len(s.Ports) > 0 && s.Ports[0].Port != nil {
					at = append(at, netip.AddrPortFrom(a, uint16(*s.Ports[0].Port)))
				}
			}
		}
	}
	if len(at) == 0 {
		return "nobody, as it has no endpoints"
	}
	return listAddresses(at)
}

// explain finds out why, and concludes.
func (t *tracer) explain(ctx context.Context) error {
	r := t.report
	t.nameByRules()
	t.remarkAffinity()
	r.Source = sourceReasons(r.Passages)
	if t.source.live() {
		t.explainQuarantine(ctx)
	}
	if err := t.explainByObjects(); err != nil {
		return err
	}
	for i := range r.Ends {
		t.explainEnd(ctx, &r.Ends[i])
	}
	t.explainUnreadable()
	t.explainUntouched()
	r.unserved = r.untouched() && len(r.Reasons) > 0
	t.explainWire()
	t.explainUnknown()
	r.Reasons = distinctReasons(r.Reasons)
	r.conclude()
	return nil
}

func distinctReasons(in []traceReason) []traceReason {
	var out []traceReason
	for _, r := range in {
		if !slices.ContainsFunc(out, func(o traceReason) bool { return o.Code == r.Code && o.Sentence == r.Sentence }) {
			out = append(out, r)
		}
	}
	return out
}

// nameByRules names the Service by the comments of the rules that were met, where
// nothing else did.
func (t *tracer) nameByRules() {
	to := &t.report.To
	eachStep(t.report.Passages, func(s, _ *rules.Step) {
		if id, role := readComment(s.Rule.Comment); id != "" && to.Service == "" && !s.Foreign {
			p := portal{id: id}
			to.Service, to.Port, to.Role = p.service(), p.portName(), role
			if s.Chain == "KUBE-NODEPORTS" || strings.HasPrefix(s.Chain, "KUBE-EXT-PORT-") {
				to.Role = roleNodePort
			}
		}
	})
}

// remarkAffinity: whom an endpoint remembers goes another way.
func (t *tracer) remarkAffinity() {
	remembers := false
	eachStep(t.report.Passages, func(s, _ *rules.Step) { remembers = remembers || s.Rule.Rare().Recent.Op == rules.RecentSet })
	if remembers {
		t.report.Remarks = append(t.report.Remarks, "Session affinity: this is a client that no endpoint remembers; one that is remembered comes to the same endpoint again.")
	}
}

// eachStep calls f with each rule that was met and the one that led to its chain; nil:
// it stands in a built-in one.
func eachStep(passages []*rules.Passage, f func(s, from *rules.Step)) {
	var walk func(steps []*rules.Step, from *rules.Step)
	walk = func(steps []*rules.Step, from *rules.Step) {
		for _, s := range steps {
			f(s, from)
			walk(s.Steps, s)
		}
	}
	for _, p := range passages {
		walk(p.Steps, nil)
	}
}

// sourceReasons says why the source is rewritten: of the rules that mark a packet for
// it, and those that do it without a mark.
func sourceReasons(passages []*rules.Passage) []string {
	var out []string
	add := func(why string) {
		if !slices.Contains(out, why) {
			out = append(out, why)
		}
	}
	eachStep(passages, func(s, _ *rules.Step) {
		switch {
		case s.Target == "KUBE-MARK-MASQ":
			add(sourceReason(s))
		case (s.Target == rules.Masquerade || s.Target == "SNAT") && s.Foreign:
			add(fmt.Sprintf("a rule of others says so (%s)", placeOf(s)))
		}
	})
	return out
}

func sourceReason(s *rules.Step) string {
	in := s.Rule.Rare().In
	switch {
	case s.Rule.Src.Not:
		return fmt.Sprintf("it does not come from a pod (%s)", s.Rule.Src.Prefix)
	case strings.HasPrefix(s.Chain, "KUBE-SEP-"):
		return fmt.Sprintf("%s reaches itself through the Service, and would answer itself directly", s.Rule.Src.Prefix.Addr())
	case in.Not:
		return fmt.Sprintf("it does not come from a pod (by %s)", in.Name)
	case s.Rule.SrcLocal:
		return "the node itself sends it to an external address"
	case strings.HasPrefix(s.Chain, "KUBE-EXT-"):
		return "it came by an external address or a node port, and the answer has to come back this way"
	}
	return fmt.Sprintf("all that goes to this address gets it (%s)", placeOf(s))
}

// placeOf names a rule by where it stands.
func placeOf(s *rules.Step) string { return fmt.Sprintf("%s %s rule %d", s.Table, s.Chain, s.Number) }

// explainEnd says why the rules let a packet not through.
func (t *tracer) explainEnd(ctx context.Context, e *rules.End) {
	r := t.report
	switch {
	case e.Arrives() || e.Verdict == rules.UnknownVerdict:
	case e.ByPolicy != nil:
		p := e.ByPolicy
		r.because(codePolicyDrop, fmt.Sprintf("no rule of %s %s lets it through, and the policy of that chain is %s.", p.Table, p.Chain, p.Policy),
			t.listCommand(p.Layer, p.Table, p.Chain))
	case e.By != nil && e.By.Foreign:
		layer := layerOf(r.Passages, e.By)
		at := placeOf(e.By)
		if layer != "" && len(t.layers) > 1 {
			at += " of iptables-" + layer
		}
		r.because(codeForeignDrop, fmt.Sprintf("%s, which is not of the service proxy, %s it: -A %s %s.", at, verb(e.Verdict), e.By.Chain, e.By.Text),
			t.listCommand(layer, e.By.Table, e.By.Chain))
	case e.By != nil && !t.settled:
		t.explainRefusal(ctx, e)
	}
}

func verb(verdict string) string {
	if verdict == rules.Reject {
		return "rejects"
	}
	return "drops"
}

// passageOf is the built-in chain by which packets came to a rule; nil: by none.
func passageOf(passages []*rules.Passage, step *rules.Step) *rules.Passage {
	for _, p := range passages {
		met := false
		eachStep([]*rules.Passage{p}, func(s, _ *rules.Step) { met = met || s == step })
		if met {
			return p
		}
	}
	return nil
}

// layerOf is the backend that a rule is of.
func layerOf(passages []*rules.Passage, step *rules.Step) string {
	if p := passageOf(passages, step); p != nil {
		return p.Layer
	}
	return ""
}

func (t *tracer) listCommand(layer string, table rules.TableName, chain string) string {
	command := "iptables"
	if rules.FamilyOf(t.report.To.Addr.Addr()) == rules.IPv6 {
		command = "ip6tables"
	}
	if layer != "" {
		command += "-" + layer
	}
	return fmt.Sprintf("%s -t %s -L %s -n -v --line-numbers", command, table, chain)
}

// explainRefusal says why a rule of the service proxy refuses the packet, which its
// comment says: kube-proxy's are the same.
func (t *tracer) explainRefusal(ctx context.Context, e *rules.End) {
	r, comment := t.report, e.By.Rule.Comment
	about := func(text string) bool { return strings.Contains(comment, text) }
	at := fmt.Sprintf("%s %s it", placeOf(e.By), verb(e.Verdict))
	switch {
	case about("has no endpoints"):
		t.explainNoEndpoints(ctx, at)
	case about("has no local endpoints"):
		t.explainNoLocal(at)
	case about("traffic not accepted by"), about("has no source range of this family"):
		r.because(codeSourceRanges, fmt.Sprintf("%s is not within the source ranges of %s, which allow %s, so %s.", r.From.Addr, r.subject(), t.sourceRanges(comment), at),
			t.serviceCommand("-o jsonpath={.spec.loadBalancerSourceRanges}"))
	case about("no such address or port"):
		t.explainServiceNetwork(at)
	case about("block incoming localnet connections"):
		r.because(codeLoopbackGuard, fmt.Sprintf("%s is a loopback address, which only the node itself may use: %s.", r.To.Addr.Addr(), at))
	default:
		r.because(codeRefused, at+".", t.listCommand(layerOf(r.Passages, e.By), e.By.Table, e.By.Chain))
	}
}

// serviceCommand is a command that shows the Service; empty if none is known.
func (t *tracer) serviceCommand(args string) string {
	namespace, name, ok := strings.Cut(t.report.To.Service, "/")
	if !ok {
		return "kubectl get services -A"
	}
	return strings.TrimSpace(fmt.Sprintf("kubectl -n %s get service %s %s", namespace, name, args))
}

func (t *tracer) slicesCommand() string {
	namespace, name, ok := strings.Cut(t.report.To.Service, "/")
	if !ok {
		return "kubectl get endpointslices -A"
	}
	return fmt.Sprintf("kubectl -n %s get endpointslices -l kubernetes.io/service-name=%s -o yaml", namespace, name)
}

// sourceRanges lists who may use a load balancer address.
func (t *tracer) sourceRanges(comment string) string {
	if t.cat != nil && t.cat.svc != nil {
		return strings.Join(t.cat.svc.Spec.LoadBalancerSourceRanges, ", ")
	}
	chain := after(comment, "traffic not accepted by ")
	var allowed []string
	for _, l := range t.layers {
		c, err := l.Save.Chain(rules.Nat, chain)
		if err != nil || c == nil {
			continue
		}
		for i := range c.Rules {
			if p := c.Rules[i].Src.Prefix; p.IsValid() {
				allowed = append(allowed, p.String())
			}
		}
	}
	if len(allowed) == 0 {
		return "nobody of this family"
	}
	return strings.Join(allowed, ", ")
}

// explainServiceNetwork: nobody has this address and port.
func (t *tracer) explainServiceNetwork(at string) {
	r := t.report
	if t.explainPort(at) {
		return
	}
	r.because(codeNoService, fmt.Sprintf("no Service has %s, which is of the service network: %s.", r.To.Addr.Addr(), at), "kubectl get services -A -o wide")
}

// explainPort says that a Service has the address and not the port, if so. at may be
// empty: nothing refuses the packet.
func (t *tracer) explainPort(at string) bool {
	r := t.report
	ports, service := t.portsOf()
	if len(ports) == 0 || slices.Contains(ports, definedPort{r.To.Addr.Port(), r.Protocol}) {
		return false
	}
	near := nearestPort(ports, r.To.Addr.Port(), r.Protocol)
	sentence := fmt.Sprintf("%s does not define port %d/%s; the nearest that it has is %s", service, r.To.Addr.Port(), r.Protocol, near)
	if at != "" {
		sentence += ", so " + at
	}
	r.because(codePortNotDefined, sentence+".", t.serviceCommand("-o wide"))
	return true
}

type definedPort struct {
	number   uint16
	protocol rules.Protocol
}

func (p definedPort) String() string { return fmt.Sprintf("%d/%s", p.number, p.protocol) }

// portsOf lists the ports that the address has, by the objects or else by the rules.
func (t *tracer) portsOf() (ports []definedPort, service string) {
	r := t.report
	if t.cat != nil && t.cat.svc != nil && r.To.Role != roleNodePort {
		for i := range t.cat.svc.Spec.Ports {
			p := &t.cat.svc.Spec.Ports[i]
			ports = append(ports, definedPort{uint16(p.Port), protocolOf(p)})
		}
		return ports, r.To.Service
	}
	for _, p := range portalsAt(t.layers, r.To.Addr.Addr()) {
		ports = append(ports, definedPort{p.port, p.protocol})
		if service == "" {
			service = p.service()
		}
	}
	if service == "" {
		service = r.To.Addr.Addr().String()
	}
	return ports, service
}

// nearestPort returns the port that is most like a number and protocol: the same
// number, else the nearest one of the protocol.
func nearestPort(ports []definedPort, number uint16, protocol rules.Protocol) definedPort {
	far := func(p definedPort) int {
		d := int(p.number) - int(number)
		if d < 0 {
			d = -d
		}
		if p.protocol != protocol && d != 0 {
			d += 1 << 16
		}
		return d
	}
	return slices.MinFunc(ports, func(a, b definedPort) int { return far(a) - far(b) })
}

// explainUntouched: rules that leave a packet alone are no fault, unless its address
// is a Service's alone. On the node's own, other ports are the node's.
func (t *tracer) explainUntouched() {
	r := t.report
	switch at := r.To.Addr.Addr(); {
	case !r.untouched() || len(r.Reasons) > 0:
	case r.To.Role == roleNodePort:
		r.because(codeNodePortClosed, fmt.Sprintf("%s is a node port of %s, but node ports are not open on %s.", r.To.Addr, r.To.Service, at),
			"svcproxy --help, for --nodeport-addresses and --iptables-localhost-nodeports")
	case !t.here(at):
		t.explainPort("")
	}
}

// explainUnreadable names what the kernel has and nothing is known of here.
func (t *tracer) explainUnreadable() {
	r := t.report
	for _, l := range t.layers {
		for _, table := range l.Save.Unreadable {
			r.because(codeUnreadable, fmt.Sprintf("table %s holds rules that only nft can show, so that what it does is not known here.", table), fmt.Sprintf("nft list table %s %s", nftFamily(rules.FamilyOf(r.To.Addr.Addr()).String()), table))
			r.orderMatters = true
		}
	}
	for _, s := range t.source.unread {
		if errors.Is(s.Err, kernel.ErrNotPermitted) { // elsewhere the kernel does not have it
			r.because(codeUnreadable, fmt.Sprintf("rules of the %s backend may not be read: %v.", s.Backend, s.Err))
			r.orderMatters = true
		} else {
			r.Remarks = append(r.Remarks, fmt.Sprintf("The %s backend is left out, as it cannot be read: %v.", s.Backend, s.Err))
		}
	}
	if len(t.source.others) > 0 {
		r.Remarks = append(r.Remarks, fmt.Sprintf("Packets also come by tables that only nft shows, which are not followed: %s. See nft list ruleset.", strings.Join(t.source.others, ", ")))
	}
}

// explainUnknown names what keeps the answer from being certain.
func (t *tracer) explainUnknown() {
	r := t.report
	for _, u := range r.Unknown {
		r.because(codeNotUnderstood, fmt.Sprintf("%s %s rule %d %s: -A %s %s.", u.Table, u.Chain, u.Number, u.Why, u.Chain, u.Text), t.listCommand(u.Layer, u.Table, u.Chain))
	}
	if r.orderMatters && len(t.layers) > 1 {
		r.because(codeBackendOrder, "both iptables backends hold rules that take this packet, and which of them the kernel asks first is not known here.",
			"iptables-nft-save -t nat", "iptables-legacy-save -t nat")
	}
}
