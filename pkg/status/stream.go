package status

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
)

// Writer writes a report as JSON while it is made, a Service a line, so that no
// more than one of them need be in memory.
type Writer struct {
	out   *bufio.Writer
	json  *json.Encoder
	comma bool // a Service was written
}

// NewWriter returns a Writer that has written nothing.
func NewWriter(w io.Writer) *Writer {
	out := bufio.NewWriterSize(w, 32<<10)
	return &Writer{out: out, json: json.NewEncoder(out)}
}

// end is how a whole report ends: as a line of its own, since a Service ends so too.
const end = "]}\n"

// Begin writes all of a report but its Services, which are its last field.
func (w *Writer) Begin(r *Report) error {
	head := *r
	head.Services = []Service{}
	text, err := json.Marshal(&head)
	if err != nil {
		return err
	}
	if _, err = w.out.Write(bytes.TrimSuffix(text, []byte("]}"))); err == nil {
		err = w.out.WriteByte('\n')
	}
	return err
}

// Service writes the next Service.
func (w *Writer) Service(s *Service) error {
	if w.comma {
		if err := w.out.WriteByte(','); err != nil {
			return err
		}
	}
	w.comma = true
	return w.json.Encode(s)
}

// End ends the report.
func (w *Writer) End() error {
	if _, err := w.out.WriteString(end); err != nil {
		return err
	}
	return w.out.Flush()
}

// Write writes a report that is there as a whole.
func Write(w io.Writer, r *Report) error {
	out := NewWriter(w)
	err := out.Begin(r)
	for i := range r.Services {
		if err == nil {
			err = out.Service(&r.Services[i])
		}
	}
	if err != nil {
		return err
	}
	return out.End()
}

// Complete reports whether text ends as a report does: one that its sender could not
// finish does not.
func Complete(text []byte) bool { return bytes.HasSuffix(text, []byte("\n"+end)) }
