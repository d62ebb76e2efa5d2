package main

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"svcproxy/pkg/rules"
)

// otherProxyLabel leaves a Service to another proxy.
const otherProxyLabel = "service.kubernetes.io/service-proxy-name"

// explainByObjects says what the objects have to do with it.
func (t *tracer) explainByObjects() error {
	if t.cat == nil || t.cat.svc == nil {
		return nil
	}
	r := t.report
	t.remarkProblems()
	if by, ok := t.cat.svc.Labels[otherProxyLabel]; ok {
		r.because(codeOtherProxy, fmt.Sprintf("%s is left to another service proxy, %q, by its label %s.", r.To.Service, by, otherProxyLabel), t.serviceCommand("--show-labels"))
		t.settled = true
		return nil
	}
	return t.explainDrift()
}

// remarkProblems tells what of the Service and its slices cannot be used as it is, and
// what is wrong with the Node.
func (t *tracer) remarkProblems() {
	about := []string{nodeObject, t.cat.svc.Namespace + "/" + t.cat.svc.Name}
	for i := range t.cat.slices {
		about = append(about, t.cat.slices[i].Namespace+"/"+t.cat.slices[i].Name)
	}
	for _, p := range t.problems {
		if slices.Contains(about, p.Object) {
			t.report.Remarks = append(t.report.Remarks, p.Error())
		}
	}
}

// explainDrift compares what becomes of the packet with what would become of it by
// the rules that the objects ask for. Sources are not compared: they hang on flags
// that trace may not have been given.
func (t *tracer) explainDrift() error {
	r := t.report
	if t.source.kind == rulesOfObjects {
		return nil
	}
	save, err := builtRules(t.snap, t.options.config(rules.FamilyOf(r.To.Addr.Addr())))
	if err != nil {
		return err
	}
	p := t.packet()
	want, err := rules.Trace([]rules.Layer{{Save: save}}, t.host(p), p)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(r.Ends, func(e rules.End) bool { return !r.stoppedEarly(&e) }) {
		return nil
	}
	wanted, got := byDestination(want.Ends), byDestination(r.Ends)
	var missing, surplus []netip.AddrPort
	for _, e := range want.Ends {
		if e.Arrives() && e.Dst != r.To.Addr && got[e.Dst] == 0 && !slices.Contains(missing, e.Dst) {
			missing = append(missing, e.Dst)
		}
	}
	for _, e := range r.Ends {
		if e.Arrives() && e.Dst != r.To.Addr && wanted[e.Dst] == 0 && !slices.Contains(surplus, e.Dst) {
			surplus = append(surplus, e.Dst)
		}
	}
	t.sayDrift(missing, surplus, got)
	return nil
}

func (t *tracer) sayDrift(missing, surplus []netip.AddrPort, got map[netip.AddrPort]float64) {
	r := t.report
	t.settled = len(missing) > 0
	look := []string{"svcproxy diff", "kubectl -n kube-system logs -l app=svcproxy --prefix --tail=-1"}
	served := math.Abs(got[r.To.Addr]-1) > 1e-6
	switch {
	case len(missing) > 0 && (!served || r.arrivingShare() < 1e-6):
		r.because(codeRulesMissing, fmt.Sprintf("the objects ask for rules that lead %s to %s, and they are not in force.", r.To.Addr, listAddresses(missing)), look...)
	case len(missing)+len(surplus) > 0:
		sentence := "the rules in force are not those that the objects ask for:"
		if len(missing) > 0 {
			sentence += " nothing leads to " + listAddresses(missing)
		}
		if len(surplus) > 0 {
			sentence += strings.Repeat(",", min(len(missing), 1)) + " some connections go to " + listAddresses(surplus) + ", which is no endpoint"
		}
		r.because(codeRulesDiffer, sentence+".", look...)
		r.but = true
	}
}

// byOthers reports whether packets that end so are stopped by a rule that is not a
// service proxy's, or by a policy.
func byOthers(e *rules.End) bool { return e.ByPolicy != nil || e.By != nil && e.By.Foreign }

// stoppedEarly reports whether others stop packets that end so before any rule of a
// Service is asked: in nat, or in a table that comes before it.
func (r *traceReport) stoppedEarly(e *rules.End) bool {
	if !byOthers(e) {
		return false
	}
	p := e.ByPolicy
	if p == nil {
		p = passageOf(r.Passages, e.By)
	}
	return p != nil && !p.Looped && slices.Contains([]rules.TableName{"raw", "mangle", rules.Nat}, p.Table) &&
		slices.Contains([]string{"PREROUTING", "OUTPUT"}, p.Chain)
}

// byDestination sums up how likely packets are led to each, whether or not others
// stop them there.
func byDestination(ends []rules.End) map[netip.AddrPort]float64 {
	out := map[netip.AddrPort]float64{}
	for i := range ends {
		if ends[i].Arrives() || byOthers(&ends[i]) {
			out[ends[i].Dst] += ends[i].Probability
		}
	}
	return out
}

// explainNoEndpoints says why a Service has none that can be used. at says what refuses
// the packet.
func (t *tracer) explainNoEndpoints(ctx context.Context, at string) {
	r := t.report
	if t.cat == nil || t.cat.svc == nil {
		r.because(codeNoEndpoints, fmt.Sprintf("%s has no endpoint that can be used, so %s.", r.subject(), at), t.slicesCommand())
		return
	}
	eps := t.endpoints()
	switch {
	case len(eps) == 0:
		r.because(codeNoEndpoints, fmt.Sprintf("%s has no endpoint: %s, so %s.", r.subject(), t.whyNone(), at), t.slicesCommand(), t.podsCommand())
	case slices.ContainsFunc(eps, func(e sliceEndpoint) bool { return e.ready() }) && t.hasPort():
		r.because(codeNoEndpoints, fmt.Sprintf("%s has endpoints that are ready, but none of them can be used, so %s.", r.subject(), at), t.slicesCommand(), "svcproxy --dry-run, which names what is wrong with all objects")
	case slices.ContainsFunc(eps, func(e sliceEndpoint) bool { return e.ready() }):
		r.because(codePortUnmatched, fmt.Sprintf("%s has endpoints that are ready, but none of them has the port %s: its EndpointSlices have %s, so %s.", r.subject(), t.portName(), t.slicePorts(), at),
			t.serviceCommand("-o yaml"), t.slicesCommand())
	default:
		var why []string
		const few = 5
		for _, e := range eps[:min(len(eps), few)] {
			why = append(why, t.describeEndpoint(ctx, e))
		}
		if more := len(eps) - few; more > 0 {
			why = append(why, fmt.Sprintf("%d more alike", more))
		}
		r.because(codeNotReady, fmt.Sprintf("none of the %d endpoints of %s is ready: %s; so %s.", len(eps), r.subject(), strings.Join(why, ", "), at),
			t.slicesCommand(), t.podsCommand())
	}
}

// portName is the name of the port that slices have to have.
func (t *tracer) portName() string {
	if t.report.To.Port == "" {
		return `"" (without a name)`
	}
	return fmt.Sprintf("%q", t.report.To.Port)
}

// hasPort reports whether a slice has the port.
func (t *tracer) hasPort() bool {
	return slices.ContainsFunc(t.cat.slices, func(s discoveryv1.EndpointSlice) bool {
		return slices.ContainsFunc(s.Ports, func(p discoveryv1.EndpointPort) bool {
			name := ""
			if p.Name != nil {
				name = *p.Name
			}
			return name == t.report.To.Port
		})
	})
}

// slicePorts lists the ports of all slices.
func (t *tracer) slicePorts() string {
	var out []string
	for _, s := range t.cat.slices {
		for _, p := range s.Ports {
			name, number := "", int32(0)
			if p.Name != nil {
				name = *p.Name
			}
			if p.Port != nil {
				number = *p.Port
			}
			out = append(out, fmt.Sprintf("%q %d", name, number))
		}
	}
	if len(out) == 0 {
		return "no port at all"
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ", ")
}

// whyNone says why there is no endpoint at all.
func (t *tracer) whyNone() string {
	svc := t.cat.svc
	if len(svc.Spec.Selector) == 0 {
		return "it has no selector, and nobody has made EndpointSlices for it"
	}
	return fmt.Sprintf("no pod matches its selector (%s), or none has an address yet", metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: svc.Spec.Selector}))
}

// podsCommand lists the pods that the Service selects.
func (t *tracer) podsCommand() string {
	selector := metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: t.cat.svc.Spec.Selector})
	if len(t.cat.svc.Spec.Selector) == 0 {
		return "kubectl -n " + t.cat.svc.Namespace + " get pods -o wide"
	}
	return fmt.Sprintf("kubectl -n %s get pods -o wide -l %s", t.cat.svc.Namespace, selector)
}

// sliceEndpoint is an endpoint of the Service as its slice has it.
type sliceEndpoint struct {
	discoveryv1.Endpoint
	slice string
}

func (e *sliceEndpoint) ready() bool {
	return e.Conditions.Ready == nil || *e.Conditions.Ready
}

// endpoints lists those of the packet's family.
func (t *tracer) endpoints() []sliceEndpoint {
	f := rules.FamilyOf(t.report.To.Addr.Addr())
	var out []sliceEndpoint
	for _, s := range t.cat.slices {
		if string(s.AddressType) != f.String() {
			continue
		}
		for _, e := range s.Endpoints {
			out = append(out, sliceEndpoint{e, s.Name})
		}
	}
	return out
}

// describeEndpoint says what the slice says of an endpoint, and the pod, where it is
// known.
func (t *tracer) describeEndpoint(ctx context.Context, e sliceEndpoint) string {
	text := strings.Join(e.Addresses[:min(len(e.Addresses), 1)], "")
	ref := e.TargetRef
	if ref != nil && ref.Kind == "Pod" {
		text += " (pod " + ref.Name + ")"
	}
	var is []string // not ready, at the least
	isTrue := func(b *bool) bool { return b != nil && *b }
	if !e.ready() {
		is = append(is, "not ready")
	}
	if isTrue(e.Conditions.Terminating) {
		is = append(is, "terminating")
	}
	if ref != nil && ref.Kind == "Pod" {
		if why := t.whyPod(ctx, ref.Namespace, ref.Name); why != "" {
			is = append(is, why)
		}
	}
	return text + " is " + strings.Join(is, ", ") + " (slice " + e.slice + ")"
}

// whyPod says why a pod is not ready; empty: it is not known.
func (t *tracer) whyPod(ctx context.Context, namespace, name string) string {
	pods, err := t.cat.store.podsNamed(ctx, namespace, name)
	if err != nil || len(pods) != 1 {
		return ""
	}
	for _, c := range pods[0].Status.Conditions {
		if c.Type == corev1.PodReady && c.Status != corev1.ConditionTrue {
			return strings.TrimSuffix(string(pods[0].Status.Phase)+": "+c.Reason, ": ")
		}
	}
	return ""
}

// explainNoLocal: policy Local keeps to endpoints of this node.
func (t *tracer) explainNoLocal(at string) {
	r := t.report
	field := "externalTrafficPolicy"
	if r.To.Role == roleClusterIP {
		field = "internalTrafficPolicy"
	}
	where := "those it has are on other nodes"
	if t.cat != nil && t.cat.svc != nil {
		if nodes := t.endpointNodes(); len(nodes) > 0 {
			where = "those that it has are on " + strings.Join(nodes, ", ")
		}
	}
	r.because(codeNoLocal, fmt.Sprintf("%s: Local keeps to endpoints on this node, and %s has none here; %s, so %s.", field, r.subject(), where, at), t.slicesCommand())
}

// endpointNodes lists the nodes that have ready endpoints.
func (t *tracer) endpointNodes() []string {
	var out []string
	for _, e := range t.endpoints() {
		if e.NodeName != nil && e.ready() && !slices.Contains(out, *e.NodeName) {
			out = append(out, *e.NodeName)
		}
	}
	slices.Sort(out)
	return out
}
