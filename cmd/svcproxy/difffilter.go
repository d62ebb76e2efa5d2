package main

import (
	"fmt"
	"slices"
	"strings"
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
		return "", fmt.Errorf("no Service %q: it is neither among the objects that rules are made for nor in the rules%s", arg, suggest(arg, known))
	case 1:
		return same[0], nil
	}
	return "", fmt.Errorf("several Services are called %q: give one of %s", arg, strings.Join(same, ", "))
}

// suggest names those that are nearest to what was typed.
func suggest(arg string, known []string) string {
	near := distinctStrings(append(nearest(arg, known), nearestBare(arg, known)...))
	if len(near) == 0 {
		return "; 'svcproxy diff' without a name compares all"
	}
	return "; is it " + strings.Join(near[:min(len(near), 3)], " or ") + "?"
}
