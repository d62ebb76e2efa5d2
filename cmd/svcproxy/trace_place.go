package main

import (
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"svcproxy/pkg/rules"
)

// traceFrom is where a packet is said to come from.
type traceFrom struct {
	pod             bool
	namespace, name string     // of the pod; namespace empty: any
	addr            netip.Addr // invalid: the node's own, or the pod's
}

// parseFrom reads what --from may be.
func parseFrom(text string) (traceFrom, error) {
	if text == "node" {
		return traceFrom{}, nil
	}
	if pod, ok := strings.CutPrefix(text, "pod/"); ok {
		namespace, name, both := strings.Cut(pod, "/")
		if !both {
			namespace, name = "", pod
		}
		if len(validation.IsDNS1123Subdomain(name)) > 0 || both && len(validation.IsDNS1123Label(namespace)) > 0 {
			return traceFrom{}, usagef("--from: %q: must be pod/NAME or pod/NAMESPACE/NAME", text)
		}
		return traceFrom{pod: true, namespace: namespace, name: name}, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return traceFrom{}, usagef("--from: %q: must be node, an IP address, pod/NAME or pod/NAMESPACE/NAME", text)
	}
	return traceFrom{addr: addr.Unmap()}, nil
}

// traceTo is what a packet is said to be for: a Service by its name, or an address.
type traceTo struct {
	namespace, name string // namespace empty: any
	port            string // a number, or a name of the Service's; empty: the only one
	addr            netip.Addr
}

const toForms = "must be SERVICE, NAMESPACE/SERVICE or a Service's DNS name, each with :PORT behind it or not, or IP:PORT"

// parseTo reads what --to may be.
func parseTo(text string) (traceTo, error) {
	if ap, err := netip.ParseAddrPort(text); err == nil && ap.Port() != 0 {
		return traceTo{addr: ap.Addr().Unmap(), port: strconv.Itoa(int(ap.Port()))}, nil
	}
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return traceTo{addr: addr.Unmap()}, nil
	}
	name, port, withPort := strings.Cut(text, ":")
	to := traceTo{name: name, port: port}
	switch {
	case withPort && !isPort(port):
		return to, usagef("--to: %q: %q is neither a port number nor the name of a port", text, port)
	case strings.Contains(name, "/"):
		if to.namespace, to.name, _ = strings.Cut(name, "/"); to.namespace == "" {
			return to, usagef("--to: %q: %s", text, toForms)
		}
	case strings.Contains(name, "."):
		labels := strings.Split(strings.TrimSuffix(name, "."), ".")
		if len(labels) < 2 || len(labels) > 2 && labels[2] != "svc" {
			return to, usagef("--to: %q is no Service's DNS name, which is SERVICE.NAMESPACE.svc.DOMAIN; give its IP:PORT", text)
		}
		to.name, to.namespace = labels[0], labels[1]
	}
	if len(validation.IsDNS1123Label(to.name)) > 0 || to.namespace != "" && len(validation.IsDNS1123Label(to.namespace)) > 0 {
		return to, usagef("--to: %q: %s", text, toForms)
	}
	return to, nil
}

// isPort accepts a number and what a port of a Service may be called.
func isPort(text string) bool {
	if n, err := strconv.Atoi(text); err == nil {
		return len(validation.IsValidPortNum(n)) == 0
	}
	return len(validation.IsDNS1123Label(text)) == 0
}

// number returns the port if it is given as one; 0: it is not.
func (to *traceTo) number() uint16 {
	n, err := strconv.ParseUint(to.port, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// String names the Service as far as it is known.
func (to *traceTo) String() string {
	if to.namespace == "" {
		return to.name
	}
	return to.namespace + "/" + to.name
}

// parseProtocol reads --proto; empty: that of the Service's port.
func parseProtocol(text string) (rules.Protocol, error) {
	switch p := rules.Protocol(strings.ToLower(text)); p {
	case "", rules.TCP, rules.UDP, rules.SCTP:
		return p, nil
	}
	return "", usagef("--proto: %q: must be tcp, udp or sctp", text)
}
