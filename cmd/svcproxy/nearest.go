package main

import (
	"cmp"
	"slices"
	"strings"

	"svcproxy/pkg/status"
)

// nearest returns up to three of the names that look most like one, the best first:
// those that hold it or differ in few letters.
func nearest(name string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	for _, n := range names {
		d := status.Distance(name, n)
		if strings.Contains(n, name) {
			d = min(d, 2)
		}
		if d <= 1+len(name)/4 {
			found = append(found, candidate{n, d})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.name, b.name))
	})
	var out []string
	for _, c := range found[:min(len(found), 3)] {
		out = append(out, c.name)
	}
	return out
}
