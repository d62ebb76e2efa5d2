package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"svcproxy/pkg/rules"
)

// flow is one packet of the matrix.
type flow struct {
	to   destination
	from position
}

// fates is what becomes of each packet, in words.
type fates struct {
	flows []flow
	words []string // for each flow
}

// walkAll sends every packet of the matrix through rules. What trace says of each
// must be the same.
func walkAll(t *testing.T, text []byte, f rules.Family, own []netip.Addr, flows []flow) fates {
	t.Helper()
	tables, err := rules.ParseSave(text, f)
	if err != nil {
		t.Fatal(err)
	}
	save, err := rules.ReadSave(string(text), f)
	if err != nil {
		t.Fatal(err)
	}
	host := rules.Host{Addresses: own}
	out := fates{flows: flows}
	for _, f := range flows {
		p := rules.Packet{
			FromNode: f.from.node, In: f.from.in, Protocol: f.to.protocol, Seen: f.from.seen,
			Src: netip.AddrPortFrom(f.from.src, 40000), Dst: f.to.addr,
		}
		ends, err := rules.Walk(tables, host, p)
		if err != nil {
			t.Fatalf("%s from %s: %v", f.to, f.from.name, err)
		}
		words := inWords(ends, f.to.addr)
		journey, err := rules.Trace([]rules.Layer{{Save: save}}, host, p)
		if err != nil {
			t.Fatalf("%s from %s: %v", f.to, f.from.name, err)
		}
		if got := tracedWords(journey, f.to.addr); got != words {
			t.Errorf("%s from %s: traced %s, walked %s", f.to, f.from.name, got, words)
		}
		out.words = append(out.words, words)
	}
	return out
}

// tracedWords says what trace says of a packet. Packets that several rules stop end
// alike.
func tracedWords(j *rules.Journey, dst netip.AddrPort) string {
	var ends []rules.Fate
	for _, e := range j.Ends {
		i := slices.IndexFunc(ends, func(f rules.Fate) bool {
			f.Probability = e.Probability
			return f == e.Fate
		})
		if i >= 0 {
			ends[i].Probability += e.Probability
			continue
		}
		ends = append(ends, e.Fate)
	}
	words := inWords(ends, dst)
	if len(j.Unknown) > 0 {
		words += ", not understood: " + j.Unknown[0].Text
	}
	return words
}

// String writes the fates for people: destinations that fare alike stand
// together, under them who comes from where with what result.
func (f fates) String() string {
	byDst := map[destination][]string{} // result and position, for each destination
	var order []destination
	for i, fl := range f.flows {
		if byDst[fl.to] == nil {
			order = append(order, fl.to)
		}
		byDst[fl.to] = append(byDst[fl.to], f.words[i]+"\t"+fl.from.name)
	}
	alike := map[string][]destination{}
	var groups []string
	for _, d := range order {
		text := table(byDst[d])
		if alike[text] == nil {
			groups = append(groups, text)
		}
		alike[text] = append(alike[text], d)
	}
	var b strings.Builder
	for _, text := range groups {
		for _, d := range alike[text] {
			fmt.Fprintln(&b, d)
		}
		b.WriteString(text)
	}
	return b.String()
}

// table joins the positions that have the same result.
func table(rows []string) string {
	from := map[string][]string{}
	var results []string
	for _, row := range rows {
		result, position, _ := strings.Cut(row, "\t")
		if from[result] == nil {
			results = append(results, result)
		}
		from[result] = append(from[result], position)
	}
	if len(results) == 1 {
		return "    from everywhere: " + results[0] + "\n"
	}
	slices.SortStableFunc(results, func(a, b string) int { return len(from[a]) - len(from[b]) })
	var b strings.Builder
	for i, r := range results {
		who := strings.Join(from[r], "; ")
		if i == len(results)-1 && len(from[r]) > 2 {
			who = "everywhere else"
		}
		fmt.Fprintf(&b, "    from %s: %s\n", who, r)
	}
	return b.String()
}

// without returns those that differ from other.
func (f fates) without(other fates) fates {
	var out fates
	for i := range f.flows {
		if f.words[i] != other.words[i] {
			out.flows = append(out.flows, f.flows[i])
			out.words = append(out.words, f.words[i])
		}
	}
	return out
}
