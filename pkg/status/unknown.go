package status

import (
	"slices"

	"svcproxy/pkg/spelling"
)

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
	var found []spelling.Candidate
	for _, s := range all {
		c := spelling.Candidate{Name: s.String(), Far: spelling.Distance(n.String(), s.String())}
		switch {
		case n.Name == "":
			c = spelling.Candidate{Name: s.Namespace, Far: spelling.Distance(n.Namespace, s.Namespace)}
			if s.Name == n.Namespace {
				c = spelling.Candidate{Name: s.String(), Far: 1} // the namespace was left out
			}
		case s.Name == n.Name:
			c.Far = 1
		}
		if c.Far <= max(2, len(n.String())/3) {
			found = append(found, c)
		}
	}
	return spelling.Nearest(found)
}
