package main

import (
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// terminal is what is known of where output goes.
type terminal struct {
	colour bool
	width  int // in columns; 0: not a terminal, lines may be as long as they are
}

// terminalOf looks at a writer. Colour is for terminals alone, and not where NO_COLOR
// is set (no-color.org) or the terminal is a dumb one.
func terminalOf(w io.Writer) terminal {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return terminal{}
	}
	t := terminal{colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		t.width = width
	}
	return t
}

// The styles of terminals (ECMA-48, SGR).
type style string

const (
	bold  style = "1"
	faint style = "2"
	red   style = "31"
	green style = "32"
	amber style = "33"
)

// paint returns the text in a style; as it is, where there is no colour.
func (t terminal) paint(s style, text string) string {
	if !t.colour || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// wrap breaks text between words into lines of at most width columns, or of any
// length if that is 0. A word that is longer has a line of its own.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case width > 0 && len([]rune(line))+1+len([]rune(word)) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// progressDelay is how long something may take before it is said what it is.
const progressDelay = time.Second

// progress says on a terminal what is being done if that takes long. done takes it
// back.
func progress(w io.Writer, what string) (done func()) {
	if terminalOf(w).width == 0 {
		return func() {}
	}
	line := what + " ..."
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-stop:
		case <-time.After(progressDelay):
			_, _ = io.WriteString(w, line)
			<-stop
			_, _ = io.WriteString(w, "\r"+strings.Repeat(" ", len(line))+"\r")
		}
	}()
	return func() { close(stop); <-stopped }
}
