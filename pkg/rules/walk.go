package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Packet is a packet as it enters the node's netfilter hooks: the first one of its
// connection, unless Tracked says otherwise.
type Packet struct {
	FromNode bool   // made on the node (OUTPUT) rather than received (PREROUTING)
	In       string // interface it came in by; empty if FromNode, else unknown
	Protocol Protocol
	Src, Dst netip.AddrPort // Src's port 0: not known
	Seen     []string       // lists of recent that hold the source

	// Tracked is what conntrack knows of the packet's connection, which both sides
	// have spoken on; nil: it is a new one. nat is not asked about a known one.
	Tracked *Tracked
}

// Tracked is what conntrack does to each packet of a connection.
type Tracked struct {
	Dst         netip.AddrPort // where they go; as they are sent, if that is not rewritten
	Masqueraded bool           // whether their source is rewritten
}

// Host is what a packet's way depends on besides the rules.
type Host struct {
	Addresses []netip.Addr // the node's own; loopback is always local

	// Out returns the interface by which packets to an address leave; empty: unknown.
	// nil: all are. A rule that asks for it may match then, or may not.
	Out func(netip.Addr) string
}

func (h *Host) local(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(h.Addresses, a)
}

// Fate is one way a packet can end, and how likely that is.
type Fate struct {
	Verdict     string         `json:"verdict"`     // ACCEPT, DROP or REJECT; in an End also Unknown
	Dst         netip.AddrPort `json:"destination"` // where it goes, rewritten or not
	Masqueraded bool           `json:"masqueraded"` // whether its source is rewritten
	Probability float64        `json:"probability"` // of all packets like it; the fates of a packet add up to 1
}

// Walk sends a packet through the rules as the kernel would and returns every
// fate it can meet, most likely first and then by destination. The tables are
// those of ParseSave; a missing table or built-in chain accepts. A rule that is
// not understood, or a jump to nowhere, is an error if it may decide what becomes
// of the packet; Trace says what is certain all the same.
func Walk(tables []Table, host Host, p Packet) ([]Fate, error) {
	w := walker{layers: []layer{{source: tableList(tables)}}, host: &host, packet: &p}
	ends, err := w.walk()
	if err != nil {
		return nil, err
	}
	if uncertain(ends) {
		u := &w.unknown[0]
		return nil, fmt.Errorf("table %s chain %s rule %d: %s: %s", u.Table, u.Chain, u.Number, u.Why, u.Text)
	}
	fates := make([]Fate, len(ends))
	for i, e := range ends {
		fates[i] = e.fate()
	}
	return merge(fates), nil
}

// tableList is rules that are parsed.
type tableList []Table

func (l tableList) chain(t TableName, name string) (*Chain, error) {
	for i := range l {
		if l[i].Name == t {
			return l[i].Chain(name), nil
		}
	}
	return nil, nil
}

// merge adds up equal fates and sorts them.
func merge(fates []Fate) []Fate {
	sum := map[Fate]float64{}
	for _, f := range fates {
		p := f.Probability
		f.Probability = 0
		sum[f] += p
	}
	out := make([]Fate, 0, len(sum))
	for f, p := range sum {
		f.Probability = p
		out = append(out, f)
	}
	slices.SortFunc(out, compareFates)
	return out
}

// compareFates is the order of fates: by probability, which is no more exact than
// the sums it comes from, then by destination.
func compareFates(a, b Fate) int {
	switch {
	case a.Probability > b.Probability+1e-9:
		return -1
	case b.Probability > a.Probability+1e-9:
		return 1
	}
	return cmp.Or(a.Dst.Compare(b.Dst), cmp.Compare(a.Verdict, b.Verdict))
}
