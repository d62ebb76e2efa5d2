package main

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"svcproxy/pkg/rules"
)

// inWords says what becomes of a packet to dst: "1/2 10.21.1.2:80 masqueraded, ...".
func inWords(ends []rules.Fate, dst netip.AddrPort) string {
	var parts []string
	for _, e := range ends {
		var words []string
		if e.Probability < 1-1e-6 {
			words = append(words, share(e.Probability))
		}
		switch {
		case e.Verdict == rules.Drop:
			words = append(words, "dropped")
		case e.Verdict == rules.Reject:
			words = append(words, "rejected")
		case e.Dst == dst:
			words = append(words, "untouched")
		default:
			words = append(words, e.Dst.String())
		}
		if e.Masqueraded {
			words = append(words, "masqueraded")
		}
		parts = append(parts, strings.Join(words, " "))
	}
	return strings.Join(parts, ", ")
}

// share writes a probability as 1/n where it is that within a millionth.
func share(p float64) string {
	if n := math.Round(1 / p); math.Abs(p-1/n) < 1e-6 {
		return fmt.Sprintf("1/%.0f", n)
	}
	return fmt.Sprintf("%.6f", p)
}
