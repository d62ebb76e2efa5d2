// Package status is what svcproxy tells of itself and of the Services on its node:
// plain values with the JSON of docs/status.md, how they are made of objects, of the
// kernel's rules and counters, and what may be asked for. It does no I/O.
package status

import (
	"slices"
	"time"
)

// APIVersion is that of the JSON. A field may come within a version; none goes and
// none changes its meaning.
const APIVersion = "status.svcproxy/v1"

// Report is one answer.
type Report struct {
	APIVersion string    `json:"apiVersion"`
	Node       Node      `json:"node"`
	Selection  Selection `json:"selection"`
	Services   []Service `json:"services"` // in the order asked for
}

// Selection says which Services a report has.
type Selection struct {
	Total   int `json:"total"`   // on the node
	Matched int `json:"matched"` // by what was asked for
	Offset  int `json:"offset"`  // of the matched ones left out in front
	Shown   int `json:"shown"`
	// Unknown are the Services asked for by name that are not there.
	Unknown []Unknown `json:"unknown,omitempty"`
}

// Unknown is a Service or namespace that is not there.
type Unknown struct {
	Name    string   `json:"name"`              // as asked for
	Nearest []string `json:"nearest,omitempty"` // what is there, and nearly has that name
}

// Source says where a report has its facts from.
type Source string

const (
	FromProxy   Source = "proxy"   // the running svcproxy
	FromKernel  Source = "kernel"  // the kernel's rules
	FromObjects Source = "objects" // objects, beside the kernel's counters
)

// Node is svcproxy on its node. What the source cannot know is empty.
type Node struct {
	Name     string     `json:"name,omitempty"`
	Source   Source     `json:"source"`
	Version  string     `json:"version,omitempty"`
	Backend  string     `json:"backend"` // nft or legacy
	Now      time.Time  `json:"now"`
	Started  *time.Time `json:"started,omitempty"`
	Healthy  *bool      `json:"healthy,omitempty"` // as /healthz says, but for Leaving
	Leaving  bool       `json:"leaving,omitempty"` // the Node is deleted or about to be
	Services int        `json:"services"`
	Problems int        `json:"problems"` // parts of objects that cannot be used as they are; the log names them
	// Counters says why there are no counters; empty: there are.
	Counters string   `json:"countersMissing,omitempty"`
	Families []Family `json:"families"`
}

// Family is what is known of one address family.
type Family struct {
	Family    string       `json:"family"` // IPv4 or IPv6
	Sync      *Sync        `json:"sync,omitempty"`
	Endpoints int          `json:"endpoints"` // each as often as it serves a port
	Rules     RuleCounts   `json:"rules"`
	Missing   []Missing    `json:"kernelLacks,omitempty"`
	Refused   []Quarantine `json:"quarantine,omitempty"`
	Drift     *Drift       `json:"drift,omitempty"` // nil: there was none
}

// RuleCounts is the number of rules in the chains of svcproxy.
type RuleCounts struct {
	Filter int `json:"filter"`
	Nat    int `json:"nat"`
}

// Sync says how far the kernel is in step.
type Sync struct {
	Last    *time.Time `json:"last,omitempty"` // when a sync last succeeded; nil: none has
	Seconds float64    `json:"seconds"`        // that it took
	Pending *time.Time `json:"pending,omitempty"`
	Error   string     `json:"error,omitempty"` // of the last sync, if it failed
}

// Missing is something that the kernel lacks.
type Missing struct {
	Name    string `json:"name"`
	Without string `json:"without"` // what that means
}

// Drift is what others did to our rules since the start. All of it was set right.
type Drift struct {
	Count int         `json:"count"` // of chains and jumps
	Last  time.Time   `json:"last"`
	By    []string    `json:"by,omitempty"` // who did the last one, as far as the kernel told
	Kinds []DriftKind `json:"kinds,omitempty"`
}

// DriftKind is how much drift there was of one kind, with the metric's words.
type DriftKind struct {
	Table string `json:"table"`
	Kind  string `json:"kind"`
	Count int    `json:"count"`
}

// Service is one Service on the node.
type Service struct {
	Namespace  string       `json:"namespace,omitempty"` // empty: the kernel's rules do not say
	Name       string       `json:"name"`                // of a chain, if the kernel's rules do not say
	Affinity   uint32       `json:"affinitySeconds,omitempty"`
	Internal   string       `json:"internalTrafficPolicy,omitempty"`
	External   string       `json:"externalTrafficPolicy,omitempty"`
	Changed    *Change      `json:"changed,omitempty"` // nil: not since the first sync
	Quarantine []Quarantine `json:"quarantine,omitempty"`
	Drift      *Drift       `json:"drift,omitempty"` // of the chains of its own
	Ports      []Port       `json:"ports"`
}

// Change is the last change of a Service or its endpoints.
type Change struct {
	At      time.Time `json:"at"`      // when the kernel had it
	Seconds float64   `json:"seconds"` // since svcproxy had learned of it
}

// Quarantine is the refusal of a Service by the kernel in one family.
type Quarantine struct {
	Family  string    `json:"family"`
	Service string    `json:"service"` // namespace/name[:port] whose rule was refused
	Rule    string    `json:"rule,omitempty"`
	Reason  string    `json:"reason"`
	InForce string    `json:"inForce"` // what is served instead
	Since   time.Time `json:"since"`
	Next    time.Time `json:"next"` // when it is tried again, at the earliest
}

// Port is one port of a Service.
type Port struct {
	Name      string     `json:"name,omitempty"`
	Protocol  string     `json:"protocol"` // tcp, udp or sctp
	Port      uint16     `json:"port"`     // 0: the kernel's rules say only the node port
	NodePort  uint16     `json:"nodePort,omitempty"`
	Addresses []Address  `json:"addresses"`
	Balances  []Balance  `json:"balances,omitempty"` // empty: no endpoint serves it
	Endpoints []Endpoint `json:"endpoints,omitempty"`
}

// Address is an address of a port, and what becomes of packets to it.
type Address struct {
	Family  string `json:"family"`
	Role    string `json:"role"` // ClusterIP, ExternalIP, LoadBalancerIP or NodePort; empty: the kernel's rules do not say
	Address string `json:"address"`
	Chain   string `json:"chain,omitempty"`   // of the nat table
	Refused string `json:"refused,omitempty"` // all: nobody is served; outside: clients outside the cluster are not
}

// Balance is a chain that spreads connections under one traffic policy.
type Balance struct {
	Family      string  `json:"family"`
	Policy      string  `json:"policy"` // Cluster or Local
	Chain       string  `json:"chain"`
	Endpoints   int     `json:"endpoints"`
	Connections *uint64 `json:"connections,omitempty"` // since the chain was written; nil: not known
	Absent      bool    `json:"absent,omitempty"`      // the kernel's counters have no such chain
}

// Endpoint is one address behind a port.
type Endpoint struct {
	Family  string  `json:"family"`
	Address string  `json:"address"`
	Node    string  `json:"node,omitempty"`
	State   string  `json:"state,omitempty"` // ready, terminating (but serving) or unready
	Chain   string  `json:"chain,omitempty"`
	Shares  []Share `json:"shares,omitempty"` // empty: this node sends nothing there
	// Flows are the connections that conntrack knows; nil: not asked for.
	Flows *uint64 `json:"flows,omitempty"`
}

// Share is the part of a balance's connections that one endpoint gets, from 0 to 1.
type Share struct {
	Policy      string   `json:"policy"`
	Wanted      float64  `json:"wanted"`
	Measured    *float64 `json:"measured,omitempty"` // nil: there were no connections, or it is not known
	Connections *uint64  `json:"connections,omitempty"`
}

// The words of Endpoint.State.
const (
	Ready       = "ready"
	Terminating = "terminating"
	Unready     = "unready"
)

// The words of Balance.Policy and Share.Policy.
const (
	PolicyCluster = "Cluster"
	PolicyLocal   = "Local"
)

// ID names the port as svcproxy's messages do: namespace/name, then :port.
func (s *Service) ID() string {
	if s.Namespace == "" {
		return s.Name
	}
	return s.Namespace + "/" + s.Name
}

// Trouble reports whether something is wrong with the Service that its users
// notice, or that was: it is in quarantine, others changed its rules, or a port of
// it has no endpoint for some traffic.
func (s *Service) Trouble() bool {
	if len(s.Quarantine) > 0 || s.Drift != nil {
		return true
	}
	for i := range s.Ports {
		if s.Ports[i].Refuses() != "" || s.Ports[i].Absent() {
			return true
		}
	}
	return false
}

// Absent reports whether the kernel lacks a chain of the port.
func (p *Port) Absent() bool {
	return slices.ContainsFunc(p.Balances, func(b Balance) bool { return b.Absent })
}

// Refuses says whose connections the port refuses: all, outside, or empty for none.
func (p *Port) Refuses() string {
	worst := ""
	for _, a := range p.Addresses {
		switch {
		case a.Refused == RefusedAll:
			return RefusedAll
		case a.Refused != "":
			worst = a.Refused
		}
	}
	return worst
}

// The words of Address.Refused.
const (
	RefusedAll     = "all"
	RefusedOutside = "outside"
)
