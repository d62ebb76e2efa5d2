package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// screen is where output for people goes.
type screen struct {
	terminal
	stdout, stderr io.Writer
}

func newScreen(stdout, stderr io.Writer) *screen {
	return &screen{terminalOf(stdout), stdout, stderr}
}

// renew begins a new picture: in the place of the last one on a terminal, behind an
// empty line elsewhere.
func (s *screen) renew() {
	switch {
	case s.width > 0:
		fmt.Fprint(s.stdout, "\x1b[H\x1b[2J\x1b[3J")
	default:
		fmt.Fprintln(s.stdout)
	}
}

// column is one of a table.
type column struct {
	head  string
	right bool // numbers
	spare int  // the higher, the sooner it is left out where the table is too wide; 0: never
}

// cell is a text in a style; empty: as it is.
type cell struct {
	text  string
	style style
}

// grid is aligned text.
type grid struct {
	columns []column
	rows    [][]cell
}

func (t *grid) add(cells ...cell) { t.rows = append(t.rows, cells) }

// print prints the columns that fit, and of these none that is empty.
func (s *screen) print(t *grid) error {
	widths := t.widths()
	for s.width > 0 && total(widths) > s.width {
		most := -1
		for i, c := range t.columns {
			if widths[i] > 0 && c.spare > 0 && (most < 0 || c.spare > t.columns[most].spare) {
				most = i
			}
		}
		if most < 0 {
			break
		}
		widths[most] = 0
	}
	head := make([]cell, len(t.columns))
	for i, c := range t.columns {
		head[i] = cell{c.head, bold}
	}
	for _, row := range append([][]cell{head}, t.rows...) {
		if _, err := fmt.Fprintln(s.stdout, strings.TrimRight(s.line(t, widths, row), " ")); err != nil {
			return err
		}
	}
	return nil
}

func (s *screen) line(t *grid, widths []int, row []cell) string {
	var b strings.Builder
	for i, c := range row {
		if widths[i] == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("  ")
		}
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
		if t.columns[i].right {
			b.WriteString(pad + s.styled(c))
		} else {
			b.WriteString(s.styled(c) + pad)
		}
	}
	return b.String()
}

func (s *screen) styled(c cell) string {
	if c.style == "" {
		return c.text
	}
	return s.paint(c.style, c.text)
}

// widths are those of the columns; 0: it is empty.
func (t *grid) widths() []int {
	out := make([]int, len(t.columns))
	for i := range t.columns {
		for _, row := range t.rows {
			out[i] = max(out[i], utf8.RuneCountInString(row[i].text))
		}
		if out[i] > 0 {
			out[i] = max(out[i], utf8.RuneCountInString(t.columns[i].head))
		}
	}
	return out
}

func total(widths []int) int {
	sum := -2
	for _, w := range widths {
		if w > 0 {
			sum += w + 2
		}
	}
	return sum
}
