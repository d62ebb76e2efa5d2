package main

import (
	"net/netip"
	"slices"
	"strings"

	"svcproxy/pkg/rules"
)

// portal is an address and port of a Service, as a rule has it. Rules say which
// Service they are for in their comments; those of clusters above 10,000 endpoints do
// not, and then chains' names do, which hold a hash of it.
type portal struct {
	id       string // namespace/name, with :port if the port has a name; empty: not said
	role     string
	addr     netip.Addr
	port     uint16
	protocol rules.Protocol
}

// service is the Service's part of the ID.
func (p *portal) service() string {
	service, _, _ := strings.Cut(p.id, ":")
	return service
}

func (p *portal) portName() string {
	_, port, _ := strings.Cut(p.id, ":")
	return port
}

// portalsAt finds the Services that have an address.
func portalsAt(layers []rules.Layer, addr netip.Addr) []portal {
	return portalsIn(layers, " -d "+netip.PrefixFrom(addr, addr.BitLen()).String()+" ")
}

// portalsOf finds the addresses of a Service by its name.
func portalsOf(layers []rules.Layer, to *traceTo) []portal {
	var out []portal
	for _, p := range portalsIn(layers, "/"+to.name) {
		if _, name, _ := strings.Cut(p.service(), "/"); name == to.name && (to.namespace == "" || p.service() == to.String()) {
			out = append(out, p)
		}
	}
	if len(out) == 0 && to.namespace != "" {
		out = portalsByHash(layers, to)
	}
	return out
}

// portalsByHash finds them by the chains that balance the Service's traffic. It takes
// the name of the port, if it has one.
func portalsByHash(layers []rules.Layer, to *traceTo) []portal {
	ids := []string{to.String()}
	if to.port != "" && to.number() == 0 {
		ids = append(ids, to.String()+":"+to.port)
	}
	var out []portal
	for _, id := range ids {
		for _, protocol := range []rules.Protocol{rules.TCP, rules.UDP, rules.SCTP} {
			cluster, local := rules.PortChains(id, protocol)
			for _, chain := range []string{cluster, local} {
				for _, p := range portalsIn(layers, " -j "+chain) {
					p.id = id
					out = append(out, p)
				}
			}
		}
	}
	return out
}

// portalNames lists the Services that rules name.
func portalNames(layers []rules.Layer) []string {
	var out []string
	for _, p := range portalsIn(layers, `--comment "`) {
		if s := p.service(); s != "" {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// portalsIn reads the rules that hold a text, as far as they lead to a Service.
func portalsIn(layers []rules.Layer, text string) []portal {
	var out []portal
	for _, l := range layers {
		all := l.Save.Text()
		for at := 0; ; {
			n := strings.Index(all[at:], text)
			if n < 0 {
				break
			}
			start := strings.LastIndexByte(all[:at+n], '\n') + 1
			end := len(all)
			if m := strings.IndexByte(all[at+n:], '\n'); m >= 0 {
				end = at + n + m
			}
			if p, ok := readPortal(all[start:end]); ok && !slices.Contains(out, p) {
				out = append(out, p)
			}
			at = end
		}
	}
	return out
}

// leadChains begin the names of the chains that lead to Services by their address.
var leadChains = []string{"KUBE-SERVICES", "KUBE-SVC-IP-", "KUBE-EXTERNAL-", "KUBE-PROXY-FIREWALL", "KUBE-PFW-"}

// readPortal reads a line of what iptables-save printed.
func readPortal(line string) (portal, bool) {
	_, rest, ok := strings.Cut(line, "-A ")
	chain, spec, _ := strings.Cut(rest, " ")
	if !ok || !slices.ContainsFunc(leadChains, func(p string) bool { return strings.HasPrefix(chain, p) }) {
		return portal{}, false
	}
	f := rules.IPv4
	if dst, _, _ := strings.Cut(after(spec, "-d "), " "); strings.Contains(dst, ":") {
		f = rules.IPv6
	}
	r, err := rules.ParseRule(spec, f)
	if err != nil || !r.Dst.Prefix.IsSingleIP() || r.Dst.Not || r.DstPort.First == 0 || r.DstPort.First != r.DstPort.Last {
		return portal{}, false
	}
	p := portal{addr: r.Dst.Prefix.Addr(), port: r.DstPort.First, protocol: r.Protocol}
	p.id, p.role = readComment(r.Comment)
	return p, true
}

func after(text, mark string) string {
	_, rest, _ := strings.Cut(text, mark)
	return rest
}

// readComment reads "ns/web:http cluster IP". Comments of other kinds have no ID.
func readComment(comment string) (id, role string) {
	id, rest, _ := strings.Cut(comment, " ")
	if namespace, name, ok := strings.Cut(id, "/"); !ok || namespace == "" || name == "" {
		return "", ""
	}
	for _, known := range []string{roleClusterIP, roleExternal, roleBalancer} {
		if rest == known {
			role = known
		}
	}
	return id, role
}
