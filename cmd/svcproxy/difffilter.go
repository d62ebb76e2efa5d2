package main

import (
	"fmt"
	"slices"
	"strings"

	"svcproxy/pkg/rules"
)

// asked returns the Services that the arguments name, as namespace/name; nil: all. A
// name alone is that of the only Service of this name.
func (m *reportMaker) asked(args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	known := m.known()
	var out []string
	for _, arg := range args {
		name, err := findService(arg, known)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out, nil
}

// known lists the Services among the objects and those that only the kernel has.
func (m *reportMaker) known() []string {
	var out []string
	for _, svc := range m.snap.Services {
		out = append(out, svc.Namespace+"/"+svc.Name)
	}
	for _, f := range m.families {
		for _, s := range f.Services {
			if s.Service != "" && !s.Wanted {
				out = append(out, s.Service)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// findService returns the one of known that arg means.
func findService(arg string, known []string) (string, error) {
	if _, found := slices.BinarySearch(known, arg); found {
		return arg, nil
	}
	var same []string
	for _, name := range known {
		if _, short, _ := strings.Cut(name, "/"); short == arg {
			same = append(same, name)
		}
	}
	switch len(same) {
	case 0:
		return "", fmt.Errorf("no Service %q: it is neither among the objects nor in the rules%s", arg, suggest(arg, known))
	case 1:
		return same[0], nil
	}
	return "", fmt.Errorf("several Services are called %q: give one of %s", arg, strings.Join(same, ", "))
}

// mostNames bounds how many names are suggested.
const mostNames = 3

// suggest names those that are nearest to what was typed.
func suggest(arg string, known []string) string {
	near := slices.Clone(known)
	distances := make(map[string]int, len(known))
	for _, name := range known {
		_, short, _ := strings.Cut(name, "/")
		distances[name] = min(lettersApart(arg, name), lettersApart(arg, short))
	}
	slices.SortStableFunc(near, func(a, b string) int { return distances[a] - distances[b] })
	near = near[:min(mostNames, len(near))]
	near = slices.DeleteFunc(near, func(name string) bool { return distances[name] > (len(arg)+1)/2 })
	if len(near) == 0 {
		return "; 'svcproxy diff' without a name compares all"
	}
	return "; do you mean " + strings.Join(near, " or ") + "?"
}

// lettersApart is how many letters have to be put in, taken out or changed to make b of a
// (Levenshtein).
func lettersApart(a, b string) int {
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
			row[j+1] = min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// quarantine is the Services that the running proxy cannot serve as they are, by family
// and namespace/name, with what is in force instead.
type quarantine map[string]string

func (q quarantine) of(f rules.Family, service string) string { return q[f.String()+" "+service] }
