package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"svcproxy/hack/internal/proxies"
)

// tools is the commands that a proxy finds first.
type tools struct {
	*proxies.Tools
	copies string // what they were given, while that is kept
}

func newTools(dir, backend string) (*tools, error) {
	made, err := proxies.NewTools(dir, backend)
	if err != nil {
		return nil, err
	}
	t := &tools{Tools: made, copies: filepath.Join(dir, "copies")}
	return t, os.Mkdir(t.copies, 0o700)
}

// writes reports whether a command is one that rules are written with.
func writes(name string) bool { return name == "nft" || strings.HasSuffix(name, "-restore") }

// shim keeps a copy of what a command is given, and renames it when the command
// is done: the kernel has it then.
const shim = `#!/bin/sh
copy=%[1]s/$$
echo "${0##*/} $@" >$copy.args
cat >$copy.input
%[2]s "$@" <$copy.input
status=$?
mv $copy.input $copy.done
exit $status
`

// keep puts shims in the place of the commands that write, or takes them away
// again: otherwise nothing stands between.
func (t *tools) keep(on bool) error {
	return t.Shim(func(name, real string) string {
		if !on || !writes(name) {
			return ""
		}
		return fmt.Sprintf(shim, t.copies, real)
	})
}

// written is one run of a command that writes.
type written struct {
	number int
	args   []string // with the command
	input  []byte
}

// take returns what was written since the last call, oldest first, and forgets it.
func (t *tools) take() ([]written, error) {
	done, err := filepath.Glob(filepath.Join(t.copies, "*.done"))
	if err != nil {
		return nil, err
	}
	var out []written
	for _, path := range done {
		w, err := readWritten(strings.TrimSuffix(path, ".done"))
		if err != nil {
			return nil, err
		}
		if len(w.input) > 0 { // else it only asked
			out = append(out, w)
		}
	}
	slices.SortFunc(out, func(a, b written) int { return a.number - b.number })
	return out, nil
}

func readWritten(path string) (written, error) {
	var w written
	var err error
	if w.number, err = strconv.Atoi(filepath.Base(path)); err != nil {
		return w, err
	}
	args, err := os.ReadFile(path + ".args")
	if err != nil {
		return w, err
	}
	w.args = strings.Fields(string(args))
	if w.input, err = os.ReadFile(path + ".done"); err != nil {
		return w, err
	}
	for _, suffix := range []string{".args", ".done"} {
		if err := os.Remove(path + suffix); err != nil {
			return w, err
		}
	}
	return w, nil
}
