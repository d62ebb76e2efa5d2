package status

import (
	"cmp"
	"slices"
	"strings"
)

// maxNearest bounds the names offered for one that is not there.
const maxNearest = 3

// Missed returns those of the names that none of the Services has, each with what is
// there and nearly has it. all lists the Services, in any order.
func Missed(names, all []Name) []Unknown {
	var out []Unknown
	for _, n := range names {
		there := func(s Name) bool { return s.Namespace == n.Namespace && (n.Name == "" || s.Name == n.Name) }
		if !slices.ContainsFunc(all, there) {
			out = append(out, Unknown{Name: n.String(), Nearest: nearest(n, all)})
		}
	}
	return out
}

// nearest returns the names of the same kind that differ least, the best first:
// for a namespace, namespaces. A Service of that very name elsewhere is near.
func nearest(n Name, all []Name) []string {
	type candidate struct {
		name string
		far  int
	}
	seen := map[string]bool{}
	var found []candidate
	for _, s := range all {
		c := candidate{name: s.String(), far: Distance(n.String(), s.String())}
		switch {
		case n.Name == "":
			c = candidate{name: s.Namespace, far: Distance(n.Namespace, s.Namespace)}
			if s.Name == n.Namespace {
				c = candidate{name: s.String(), far: 1} // the namespace was left out
			}
		case s.Name == n.Name:
			c.far = 1
		}
		if !seen[c.name] && c.far <= max(2, len(n.String())/3) {
			seen[c.name] = true
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(a.far-b.far, strings.Compare(a.name, b.name))
	})
	var out []string
	for _, c := range found[:min(len(found), maxNearest)] {
		out = append(out, c.name)
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
