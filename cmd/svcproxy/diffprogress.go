package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// diffProgress tells people what takes long. Elsewhere than on a terminal nobody waits.
type diffProgress struct {
	w        io.Writer
	terminal bool
}

func newDiffProgress(stderr io.Writer) *diffProgress {
	return &diffProgress{stderr, isTerminal(stderr)}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progressPatience is how long a step may take without a word.
const progressPatience = time.Second

// during runs a step, and says what it is once it has taken a while.
func (p *diffProgress) during(what string, step func() error) error {
	if p.terminal {
		say := time.AfterFunc(progressPatience, func() { fmt.Fprintf(p.w, "%s ...\n", what) })
		defer say.Stop()
	}
	return step()
}
