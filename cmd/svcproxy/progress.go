package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progress tells people what takes long. Elsewhere than on a terminal nobody waits.
type progress struct {
	w        io.Writer
	terminal bool
}

func newProgress(stderr io.Writer) *progress { return &progress{stderr, isTerminal(stderr)} }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progressPatience is how long a step may take without a word.
const progressPatience = time.Second

// during runs a step, and says what it is once it has taken a while.
func (p *progress) during(what string, step func() error) error {
	if p.terminal {
		say := time.AfterFunc(progressPatience, func() { fmt.Fprintf(p.w, "%s ...\n", what) })
		defer say.Stop()
	}
	return step()
}
