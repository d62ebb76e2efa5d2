package watch

import (
	"fmt"
	"io"
	"os"
)

// EachObject hands over the objects in files as they stand there, for those who want
// to know more of them than rules depend on. Paths are those of NewFiles. What cannot
// be read as an object is passed over: the snapshot has it among its problems.
func EachObject(paths []string, stdin io.Reader, f func(apiVersion, kind string, raw []byte)) error {
	for _, path := range paths {
		names, err := expand(path)
		if err != nil {
			return err
		}
		for _, name := range names {
			text, err := readText(name, stdin)
			if err != nil {
				return err
			}
			d := &decoder{file: name, out: &objects{}}
			d.each = func(h *header, raw []byte) { f(h.APIVersion, h.Kind, raw) }
			d.documents(text)
		}
	}
	return nil
}

func readText(name string, stdin io.Reader) ([]byte, error) {
	if name != "-" {
		return os.ReadFile(name)
	}
	text, err := io.ReadAll(stdin)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return text, nil
}
