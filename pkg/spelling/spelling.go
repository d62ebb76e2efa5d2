// Package spelling finds out what may have been meant by a name that nothing has.
package spelling

import (
	"cmp"
	"slices"
	"strings"
)

// maxNearest bounds the names offered for one that is not there.
const maxNearest = 3

// Candidate is a name that may have been meant.
type Candidate struct {
	Name string
	Far  int // how much it differs from what was said, in letters
}

// Nearest returns up to three of the names, each once, those that differ least first.
func Nearest(candidates []Candidate) []string {
	sorted := slices.SortedFunc(slices.Values(candidates), func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.Far, b.Far), strings.Compare(a.Name, b.Name))
	})
	var out []string
	for _, c := range sorted {
		if len(out) < maxNearest && !slices.Contains(out, c.Name) {
			out = append(out, c.Name)
		}
	}
	return out
}

// Distance is how many letters have to be put in, taken out or changed to make one
// word of another (Levenshtein).
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
