package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"svcproxy/pkg/picture"
	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

const traceLong = `svcproxy trace says what becomes of a packet: each rule that it meets, hook by
hook, with counters and probabilities, where it ends, and if it does not arrive,
why, and what to look at. It changes nothing.

  svcproxy trace --to ns/web                      from this node, by the kernel's rules
  svcproxy trace --to ns/web:http --from pod/ns/client --kubeconfig FILE
  svcproxy trace --to 10.96.0.10:53 --proto udp   an address instead of a name
  svcproxy trace --to ns/web -f DIR               by the rules for objects in files
  svcproxy trace --to ns/web --rules FILE         by what iptables-save printed, also kube-proxy's

docs/trace.md has the JSON form and the reasons.`

// traceFlags are those that trace has of its own.
type traceFlags struct {
	from, to, proto, in, rules, output string
	nodeIPs                            []net.IP
	try                                bool
}

// traceOutputs are what -o takes, and what writes it.
var traceOutputs = map[string]func(io.Writer, *traceReport) error{
	"text":    writeTraceText,
	"json":    writeJSON,
	"dot":     pictured(picture.DOT),
	"mermaid": pictured(picture.Mermaid),
	"svg":     pictured(traceSVG),
}

// newTraceCommand returns "svcproxy trace".
func newTraceCommand(stdin io.Reader) *cobra.Command {
	var flags traceFlags
	cmd := inspector{
		use: "trace --to SERVICE", short: "Say what becomes of a packet, rule by rule, and why", long: traceLong,
		args: cobra.NoArgs,
		run: func(cmd *cobra.Command, o *options, _ []string) error {
			return flags.run(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}.command(stdin)
	fs := cmd.Flags()
	fs.StringVar(&flags.to, "to", "", "where the packet goes: `[NAMESPACE/]SERVICE[:PORT]`, a Service's DNS name, or IP:PORT")
	fs.StringVar(&flags.from, "from", "node", "where it comes from: `node`, an IP address, pod/NAME or pod/NAMESPACE/NAME")
	fs.StringVar(&flags.proto, "proto", "", "`tcp`, udp or sctp; empty: that of the Service's port, else tcp")
	fs.StringVar(&flags.in, "in", "", "`interface` by which it comes in, if not from the node; empty: unknown, where rules ask for it both ways are followed")
	fs.StringVar(&flags.rules, "rules", "", "whose rules: `kernel`, objects (those that svcproxy writes for -f or --kubeconfig), a file with what iptables-save printed, or - (standard input); empty: kernel, or objects with -f")
	fs.IPSliceVar(&flags.nodeIPs, "node-ip", nil, "`addresses` of the node that the rules are of, if neither a Node object nor this node has them")
	fs.BoolVar(&flags.try, "try", false, "also connect to the endpoints, from this node, and say whether they answer; only with the kernel's rules and over TCP")
	fs.StringVarP(&flags.output, "output", "o", "text", "`text`, json, or a picture of the chains: dot, mermaid or svg")
	return cmd
}

func (t *traceFlags) run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	write := traceOutputs[t.output]
	if write == nil {
		return usagef("-o: %q: must be text, json, dot, mermaid or svg", t.output)
	}
	if t.to == "" {
		return usagef("--to is missing: %s", toForms)
	}
	tr, err := t.tracer(ctx, o, stderr)
	if err != nil {
		return err
	}
	report, err := tr.trace(ctx)
	if err != nil {
		return err
	}
	return write(stdout, report)
}

// writeJSON writes the report for programs.
func writeJSON(w io.Writer, r *traceReport) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("print the trace: %w", err)
	}
	return nil
}

// tracer traces one packet.
type tracer struct {
	options  *options
	from     traceFrom
	to       traceTo
	protocol rules.Protocol // empty: that of the Service's port
	in       string
	tries    bool
	cat      *catalogue // nil: there are no objects
	node     *rules.Node
	snap     *rules.Snapshot // with at least the Service; nil: there are no objects
	problems []watch.Problem // of its objects
	source   *ruleSource
	nodeIPs  []netip.Addr
	report   *traceReport
	layers   []rules.Layer

	settled bool // why no rule serves the packet is known, whatever refuses it then
}

// tracer reads the flags, and the objects that they name.
func (t *traceFlags) tracer(ctx context.Context, o *options, stderr io.Writer) (*tracer, error) {
	tr := &tracer{options: o, in: t.in, tries: t.try, report: &traceReport{}}
	var errs [3]error
	tr.from, errs[0] = parseFrom(t.from)
	tr.to, errs[1] = parseTo(t.to)
	tr.protocol, errs[2] = parseProtocol(t.proto)
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	var err error
	var without noClusterError
	switch tr.cat, err = o.catalogue(ctx, &tr.to); {
	case errors.As(err, &without) && ctx.Err() == nil:
		tr.report.Remarks = append(tr.report.Remarks, fmt.Sprintf("The cluster does not answer (%v), so only what the rules say is known; --kubeconfig says how else it can be asked.", without))
	case err != nil:
		return nil, err
	}
	if tr.source, err = newRuleSource(t.rules, o, tr.cat, stderr); err != nil {
		return nil, err
	}
	if tr.cat != nil {
		err = tr.readObjects(ctx)
	}
	if err != nil {
		return nil, err
	}
	if t.try && !tr.source.live() {
		return nil, usagef("--try: only where the rules are the kernel's, which a connection goes through; leave out --rules and -f, or give --rules kernel")
	}
	tr.nodeIPs, err = tr.source.nodeAddresses(t.nodeIPs, tr.node)
	return tr, err
}

// readObjects finds the Service and what the rules for it depend on.
func (t *tracer) readObjects(ctx context.Context) error {
	err := t.cat.find(ctx, &t.to, t.protocol)
	if err != nil {
		return err
	}
	if t.snap, t.problems, err = t.cat.store.snapshot(ctx, t.cat.svc); err != nil {
		return err
	}
	t.node = &t.snap.Node
	return nil
}

// trace makes the report.
func (t *tracer) trace(ctx context.Context) (*traceReport, error) {
	r := t.report
	if err := t.aim(ctx); err != nil {
		return nil, err
	}
	if r.noRules {
		return r, nil
	}
	if err := t.depart(ctx); err != nil {
		return nil, err
	}
	if err := t.walk(); err != nil {
		return nil, err
	}
	if err := t.follow(ctx); err != nil {
		return nil, err
	}
	if err := t.explain(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// depart works out where the packet comes from.
func (t *tracer) depart(ctx context.Context) error {
	from := &t.report.From
	dst := t.report.To.Addr
	addr := t.from.addr
	if t.from.pod {
		a, err := t.podAddress(ctx, rules.FamilyOf(dst.Addr()))
		if err != nil {
			return err
		}
		addr, from.Kind, from.Name = a, fromPod, t.from.namespace+"/"+t.from.name
	}
	switch {
	case !addr.IsValid():
		from.Kind, addr = fromNode, t.nodeSource(dst)
	case t.here(addr):
		from.Kind = fromNode
	case from.Kind == "":
		from.Kind = fromElsewhere
	}
	if rules.FamilyOf(addr) != rules.FamilyOf(dst.Addr()) {
		return usagef("--from %s is not of the family of --to, which is %s", addr, dst.Addr())
	}
	if from.Kind == fromNode && t.in != "" {
		return usagef("--in %s: a packet of the node itself comes in by no interface; leave it out, or say by --from whose it is", t.in)
	}
	if from.Kind == fromNode && t.node != nil {
		from.Name = t.node.Name
	}
	from.Addr, from.In = addr, t.in
	t.remarkNodeUnknown()
	return nil
}

// remarkNodeUnknown: without an address of the node no packet is for it, and no rule
// asks for its packets by their source.
func (t *tracer) remarkNodeUnknown() {
	r := t.report
	f := rules.FamilyOf(r.To.Addr.Addr())
	if slices.ContainsFunc(t.nodeIPs, func(a netip.Addr) bool { return rules.FamilyOf(a) == f }) || r.To.Role != "" && !r.From.Addr.IsUnspecified() {
		return
	}
	r.Remarks = append(r.Remarks, "No address of the node is known here, so neither node ports are found nor rules that ask for packets from the node: give --node-ip.")
}

// podAddress returns the address of the pod that --from names. A pod on the host's
// network is the node.
func (t *tracer) podAddress(ctx context.Context, f rules.Family) (netip.Addr, error) {
	if t.cat == nil {
		return netip.Addr{}, usagef("--from pod/...: who a pod is, is in the cluster: give --kubeconfig, -f, or the pod's address")
	}
	pod, err := t.cat.pod(ctx, t.from.namespace, t.from.name)
	if err != nil {
		return netip.Addr{}, err
	}
	t.from.namespace = pod.Namespace
	t.remarkElsewhere(pod)
	ips := []string{pod.Status.PodIP}
	for _, ip := range pod.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip); err == nil && rules.FamilyOf(a) == f {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("pod %s/%s has no %s address yet (phase %s)", pod.Namespace, pod.Name, f, pod.Status.Phase)
}

// remarkElsewhere: what a pod sends meets the rules of its own node first, and is
// rewritten there.
func (t *tracer) remarkElsewhere(pod *corev1.Pod) {
	if on := pod.Spec.NodeName; on != "" && on != t.node.Name {
		t.report.Remarks = append(t.report.Remarks, fmt.Sprintf(
			"Pod %s/%s runs on node %s, whose rules its packets go by; these are the rules of %s. Trace it there, or with --hostname-override=%s by the rules for objects.",
			pod.Namespace, pod.Name, on, t.node.Name, on))
	}
}

// nodeSource is the address that the node itself sends from: the one that the kernel
// chooses, the node's primary one, or, where none is known, the unspecified address,
// which stands for all that is no pod's.
func (t *tracer) nodeSource(dst netip.AddrPort) netip.Addr {
	f := rules.FamilyOf(dst.Addr())
	if t.source.live() {
		if conn, err := net.Dial("udp", dst.String()); err == nil { // which sends nothing
			defer conn.Close()
			if ap, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil {
				return ap.Addr().Unmap()
			}
		}
	}
	for _, a := range t.nodeIPs {
		if rules.FamilyOf(a) == f {
			return a
		}
	}
	return f.All().Addr()
}

// walk sends the packet through the rules.
func (t *tracer) walk() error {
	p := t.packet()
	host := t.host(p)
	journey, err := rules.Trace(t.layers, host, p)
	if err != nil {
		return err
	}
	t.report.Journey = *journey
	if len(t.layers) > 1 {
		turned := slices.Clone(t.layers)
		slices.Reverse(turned)
		other, err := rules.Trace(turned, host, p)
		if err != nil {
			return err
		}
		t.report.orderMatters = !sameFates(journey.Ends, other.Ends)
		t.report.otherwise = t.report.orderMatters && slices.ContainsFunc(other.Ends, func(e rules.End) bool { return e.Arrives() })
	}
	return t.established(host, p)
}

// host is the node as a packet meets it: what a packet of its own is sent from is its
// address, whether or not it is known as such.
func (t *tracer) host(p rules.Packet) rules.Host {
	if p.FromNode {
		return rules.Host{Addresses: append(slices.Clone(t.nodeIPs), p.Src.Addr())}
	}
	return rules.Host{Addresses: t.nodeIPs}
}

func (t *tracer) packet() rules.Packet {
	from := &t.report.From
	p := rules.Packet{Protocol: t.report.Protocol, Src: netip.AddrPortFrom(from.Addr, 0), Dst: t.report.To.Addr}
	if p.FromNode = from.Kind == fromNode; !p.FromNode {
		p.In = from.In
	}
	return p
}

// established sends a further packet of the connection, to the likeliest of the ends
// where the first one arrives.
func (t *tracer) established(host rules.Host, p rules.Packet) error {
	for _, e := range t.report.Ends {
		if !e.Arrives() || e.Unsure {
			continue
		}
		p.Tracked = &rules.Tracked{Dst: e.Dst, Masqueraded: e.Masqueraded}
		journey, err := rules.Trace(t.layers, host, p)
		if err != nil {
			return err
		}
		t.report.Established = &traceEstablished{Ends: journey.Ends}
		return nil
	}
	return nil
}

// sameFates compares ends but for who decided them.
func sameFates(a, b []rules.End) bool {
	return slices.EqualFunc(a, b, func(a, b rules.End) bool { return a.Fate == b.Fate && a.Unsure == b.Unsure })
}
