package rules

import "slices"

// edit is a line of the way from one list of rules to another.
type edit struct {
	op         byte // '-': only the first list has the rule; '+': only the second; ' ': both
	rule       *Rule
	have, want int // how many rules of each list are before it
}

// editScript returns the way from have to want. It is the shortest where no rule
// stands twice in a list.
func editScript(have, want []Rule) []edit {
	script := make([]edit, 0, max(len(have), len(want)))
	w := 0
	add := func(upTo int, h int) {
		for ; w < upTo; w++ {
			script = append(script, edit{'+', &want[w], h, w})
		}
	}
	for h, at := range kept(have, want) {
		if at < 0 {
			script = append(script, edit{'-', &have[h], h, w})
			continue
		}
		add(at, h)
		script = append(script, edit{' ', &have[h], h, w})
		w++
	}
	add(len(want), len(have))
	return script
}

// kept returns, for each rule of have, its place in want if it stays; else -1. The
// places rise: of rules that changed places as few as can be do not stay.
func kept(have, want []Rule) []int {
	head := 0
	for head < min(len(have), len(want)) && have[head] == want[head] {
		head++
	}
	tail := 0
	for tail < min(len(have), len(want))-head && have[len(have)-1-tail] == want[len(want)-1-tail] {
		tail++
	}
	places := map[Rule][]int{}
	for i := head; i < len(want)-tail; i++ {
		places[want[i]] = append(places[want[i]], i)
	}
	at := make([]int, len(have))
	for i := range have {
		switch p := places[have[i]]; {
		case i < head:
			at[i] = i
		case i >= len(have)-tail:
			at[i] = len(want) - len(have) + i
		case len(p) > 0:
			at[i], places[have[i]] = p[0], p[1:]
		default:
			at[i] = -1
		}
	}
	return rising(at)
}

// rising keeps a longest rising part of numbers and makes all others -1, as those
// that are negative are.
func rising(numbers []int) []int {
	var ends []int // where the best part of each length ends; what is there rises
	before := make([]int, len(numbers))
	for i, n := range numbers {
		if n < 0 {
			continue
		}
		length, _ := slices.BinarySearchFunc(ends, n, func(end, n int) int { return numbers[end] - n })
		before[i] = -1
		if length > 0 {
			before[i] = ends[length-1]
		}
		if length == len(ends) {
			ends = append(ends, i)
		} else {
			ends[length] = i
		}
	}
	out := slices.Repeat([]int{-1}, len(numbers))
	if len(ends) > 0 {
		for i := ends[len(ends)-1]; i >= 0; i = before[i] {
			out[i] = numbers[i]
		}
	}
	return out
}

// run is a part of an edit script, from first to the one before end.
type run struct{ first, end int }

// contextLines is how many lines that did not change stand beside those that did.
const contextLines = 2

// runsWithContext returns the parts around changes.
func runsWithContext(script []edit) []run {
	var out []run
	for i := range script {
		if script[i].op == ' ' {
			continue
		}
		first, end := max(0, i-contextLines), min(len(script), i+1+contextLines)
		if last := len(out) - 1; last >= 0 && first <= out[last].end {
			out[last].end = end
		} else {
			out = append(out, run{first, end})
		}
	}
	return out
}

// runsByOwner returns the changes of each owner; what stands beside them is of others.
func runsByOwner(script []edit, owner func(*Rule) string) map[string][]run {
	out := map[string][]run{}
	for i := range script {
		if script[i].op == ' ' {
			continue
		}
		who := owner(script[i].rule)
		runs := out[who]
		if last := len(runs) - 1; last >= 0 && runs[last].end == i {
			runs[last].end++
		} else {
			out[who] = append(runs, run{i, i + 1})
		}
	}
	return out
}

// hunks writes parts of a script.
func hunks(script []edit, runs []run, text func(*Rule) string) []Hunk {
	var out []Hunk
	for _, r := range runs {
		h := Hunk{Have: script[r.first].have, Want: script[r.first].want}
		for _, e := range script[r.first:r.end] {
			h.Lines = append(h.Lines, string(e.op)+text(e.rule))
		}
		have, want := h.Counts()
		h.Have += min(have, 1)
		h.Want += min(want, 1)
		out = append(out, h)
	}
	return out
}

// Counts returns how many of the lines each list has.
func (h *Hunk) Counts() (have, want int) {
	for _, l := range h.Lines {
		if l[0] != '+' {
			have++
		}
		if l[0] != '-' {
			want++
		}
	}
	return have, want
}
