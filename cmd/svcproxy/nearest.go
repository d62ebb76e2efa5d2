package main

import (
	"strings"

	"svcproxy/pkg/spelling"
)

// nearest returns up to three of the names that look most like one, the best first:
// those that hold it or differ in few letters.
func nearest(name string, names []string) []string {
	var found []spelling.Candidate
	for _, n := range names {
		far := spelling.Distance(name, n)
		if strings.Contains(n, name) {
			far = min(far, 2)
		}
		if far <= 1+len(name)/4 {
			found = append(found, spelling.Candidate{Name: n, Far: far})
		}
	}
	return spelling.Nearest(found)
}
