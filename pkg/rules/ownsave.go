package rules

import (
	"fmt"
	"slices"
	"strings"
)

// ReadOwn returns what is ours of what iptables-save printed, with or without
// counters, or of text for iptables-restore. Text without any table, or with one that
// does not end, is an error: a part would look as if rules were missing.
func ReadOwn(text []byte, f Family) (*Ruleset, error) {
	tables, err := ParseSave(text, f)
	if err != nil {
		return nil, err
	}
	own := Own(f, tables)
	open := "" // the table that the line is in
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n ")
		switch {
		case strings.HasPrefix(line, "*"):
			open = line[1:]
		case line == "COMMIT":
			open = ""
		default:
			if t, ok := unreadable(line); ok && !slices.Contains(own.Unreadable, t) {
				own.Unreadable = append(own.Unreadable, t)
			}
		}
	}
	switch {
	case open != "":
		return nil, fmt.Errorf("parse rules: table %s has no end (COMMIT)", open)
	case len(tables) == 0 && len(own.Unreadable) == 0:
		return nil, fmt.Errorf("parse rules: there is no table")
	}
	return own, nil
}
