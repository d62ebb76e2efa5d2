package main

import (
	"fmt"
	"slices"
	"strings"

	"svcproxy/pkg/rules"
)

// diffReport is what diff prints. As JSON it is for programs: fields may be added,
// but none goes or changes its meaning (docs/diff.md).
type diffReport struct {
	Result   string       `json:"result"`   // same or different
	Compared string       `json:"compared"` // rules, and what becomes of packets; or fates: that alone
	Node     string       `json:"node"`
	Families []familyDiff `json:"families"`
}

const (
	resultSame      = "same"
	resultDifferent = "different"

	comparedRules = "rules"
	comparedFates = "fates"
)

// familyDiff is one address family.
type familyDiff struct {
	Family     string            `json:"family"` // IPv4 or IPv6
	From       string            `json:"from"`   // iptables-nft and so on, or the name of a file
	Result     string            `json:"result"`
	Proxy      string            `json:"proxy"`                // whose the rules are: svcproxy, kube-proxy, or none
	Unreadable []rules.TableName `json:"unreadable,omitempty"` // tables that iptables cannot show
	Leftover   *leftoverDiff     `json:"leftover,omitempty"`
	Chains     int               `json:"chains"` // that differ, those of jumps among them
	Fates      *fateCount        `json:"fates,omitempty"`
	Services   []serviceDiff     `json:"services"`
}

// leftoverDiff is rules of a service proxy in the other backend.
type leftoverDiff struct {
	From   string `json:"from"`
	Chains int    `json:"chains"`
	Jumps  int    `json:"jumps"`
}

// fateCount counts Services by how packets to them fare.
type fateCount struct {
	Services int `json:"services"` // compared
	Same     int `json:"same"`     // those to which all packets fare as they should
}

// serviceDiff is what differs of a Service.
type serviceDiff struct {
	Service     string       `json:"service"` // namespace/name; empty: what no single Service has
	Wanted      bool         `json:"wanted"`  // it is among the objects
	Quarantined string       `json:"quarantined,omitempty"`
	Chains      []chainDiff  `json:"chains,omitempty"`
	Packets     []packetDiff `json:"packets,omitempty"` // that fare otherwise
}

type chainDiff struct {
	Table rules.TableName `json:"table"`
	Chain string          `json:"chain"`
	Kind  rules.DriftKind `json:"kind"`
	Hunks []hunkDiff      `json:"hunks,omitempty"`
}

type hunkDiff struct {
	Have  int      `json:"have"` // number of the first line there, and wanted
	Want  int      `json:"want"`
	Lines []string `json:"lines"`
}

type packetDiff struct {
	Protocol rules.Protocol `json:"protocol"`
	To       string         `json:"to"`
	From     string         `json:"from"` // an address, or "node" and an address
	Have     string         `json:"have,omitempty"`
	Want     string         `json:"want,omitempty"`
	Unknown  string         `json:"unknown,omitempty"` // why it cannot be told
}

// reportMaker compares families with one snapshot.
type reportMaker struct {
	opts        *diffOptions
	snap        *rules.Snapshot
	quarantined []quarantined
	families    []familyDiff
}

// family compares the rules that were found in one source.
func (m *reportMaker) family(src ownSource, have *foundRules) {
	b := rules.NewBuilder(src.config)
	want := b.Build(m.snap)
	c := b.Compare(have.Ruleset, want)
	diff := c.Diff()
	out := familyDiff{Family: src.family.String(), From: have.from, Proxy: proxyOf(have.Ruleset), Unreadable: diff.Unreadable}
	if l := have.leftover; l != nil {
		out.Leftover = &leftoverDiff{l.from, l.chains, l.jumps}
	}
	s := &serviceCollector{places: map[string]int{}}
	if !m.opts.fates {
		s.chains(diff, m.opts.brief)
	}
	if fates := fatesOf(c, diff, src.config.Family, m.snap); fates != nil {
		s.packets(fates, src.config)
		out.Fates = &fateCount{fates.Services, fates.Services - wantedOnes(fates)}
	}
	out.Services = s.sorted()
	for i := range out.Services {
		out.Services[i].Quarantined = inForce(m.quarantined, out.Family, out.Services[i].Service)
	}
	out.Chains = countChains(out.Services)
	m.families = append(m.families, out)
}

// inForce is what is served in place of a Service that the kernel refuses; empty: it
// does not.
func inForce(list []quarantined, family, service string) string {
	for _, q := range list {
		if q.Family == family && q.Service == service {
			return q.InForce
		}
	}
	return ""
}

// fatesOf compares packets, where rules differ; nil if a table cannot be read.
func fatesOf(c *rules.Comparison, diff *rules.Diff, f rules.Family, snap *rules.Snapshot) *rules.FateDiff {
	if diff.Empty() {
		return &rules.FateDiff{Services: rules.CountServices(snap, f)}
	}
	return c.Fates()
}

func proxyOf(have *rules.Ruleset) string {
	switch {
	case have.ByKubeProxy():
		return "kube-proxy"
	case have.LeadsToServices():
		return "svcproxy"
	}
	return "none"
}

func wantedOnes(fates *rules.FateDiff) int {
	n := 0
	for i := range fates.Differ {
		if fates.Differ[i].Wanted {
			n++
		}
	}
	return n
}

// report picks those Services that were asked for and says how it came out.
func (m *reportMaker) report(args []string) (*diffReport, error) {
	out := &diffReport{Result: resultSame, Compared: comparedRules, Node: m.snap.Node.Name, Families: m.families}
	if m.opts.fates {
		out.Compared = comparedFates
	}
	asked, err := m.asked(args)
	if err != nil {
		return nil, err
	}
	for i := range out.Families {
		f := &out.Families[i]
		if asked != nil {
			f.narrow(asked, m.compared(f.Family, asked))
		}
		f.Result = resultSame
		if len(f.Services) > 0 || len(f.Unreadable) > 0 || f.Leftover != nil && !m.opts.fates {
			f.Result, out.Result = resultDifferent, resultDifferent
		}
	}
	return out, nil
}

// compared counts those of the Services asked for that a family has.
func (m *reportMaker) compared(family string, asked []string) int {
	among := &rules.Snapshot{Services: slices.DeleteFunc(slices.Clone(m.snap.Services), func(s *rules.Service) bool {
		return !slices.Contains(asked, s.Namespace+"/"+s.Name)
	})}
	for _, f := range rules.Families() {
		if f.String() == family {
			return rules.CountServices(among, f)
		}
	}
	return 0
}

// narrow leaves out all Services but those asked for, of which some are compared.
func (f *familyDiff) narrow(asked []string, compared int) {
	f.Services = slices.DeleteFunc(f.Services, func(s serviceDiff) bool { return !slices.Contains(asked, s.Service) })
	f.Chains = countChains(f.Services)
	if f.Fates == nil {
		return
	}
	f.Fates = &fateCount{compared, compared}
	for i := range f.Services {
		if s := &f.Services[i]; s.Wanted && len(s.Packets) > 0 {
			f.Fates.Same--
		}
	}
}

// countChains counts chains that differ. A shared one differs for many Services.
func countChains(services []serviceDiff) int {
	seen := map[string]bool{}
	for _, s := range services {
		for _, c := range s.Chains {
			seen[string(c.Table)+" "+c.Chain] = true
		}
	}
	return len(seen)
}

// serviceCollector joins what differs of each Service.
type serviceCollector struct {
	list   []serviceDiff
	places map[string]int
}

// service returns the one of that name.
func (s *serviceCollector) service(name string, wanted bool) *serviceDiff {
	i, ok := s.places[name]
	if !ok {
		i = len(s.list)
		s.places[name] = i
		s.list = append(s.list, serviceDiff{Service: name, Wanted: wanted})
	}
	return &s.list[i]
}

func (s *serviceCollector) sorted() []serviceDiff {
	slices.SortFunc(s.list, func(a, b serviceDiff) int { return strings.Compare(a.Service, b.Service) })
	if s.list == nil {
		return []serviceDiff{}
	}
	return s.list
}

func (s *serviceCollector) chains(diff *rules.Diff, brief bool) {
	for _, d := range diff.Services {
		svc := s.service(d.Name, d.Wanted)
		for _, c := range d.Chains {
			chain := chainDiff{Table: c.Table, Chain: c.Chain, Kind: c.Kind}
			for _, h := range c.Hunks {
				if !brief {
					chain.Hunks = append(chain.Hunks, hunkDiff{h.Have, h.Want, h.Lines})
				}
			}
			svc.Chains = append(svc.Chains, chain)
		}
	}
}

func (s *serviceCollector) packets(fates *rules.FateDiff, cfg rules.Config) {
	for _, d := range fates.Differ {
		svc := s.service(d.Name, d.Wanted)
		for i := range d.Packets {
			p := &d.Packets[i]
			svc.Packets = append(svc.Packets, packetDiff{
				Protocol: p.Protocol, To: p.To.String(), From: clientInWords(&p.From, cfg),
				Have: inWords(p.Have, p.To), Want: inWords(p.Want, p.To), Unknown: p.Unknown,
			})
		}
	}
}

// clientInWords says where a packet comes from.
func clientInWords(c *rules.Client, cfg rules.Config) string {
	words := c.Addr.String()
	switch pods := cfg.PodTraffic.CIDR; {
	case c.Node:
		words = "node " + words
	case pods.IsValid() && pods.Contains(c.Addr):
		words = "pod " + words
	}
	if c.In != "" {
		words += " by " + c.In
	}
	if c.Seen != "" {
		words += fmt.Sprintf(" (seen by %s)", c.Seen)
	}
	return words
}
