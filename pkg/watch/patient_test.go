package watch

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// server answers as often as it has errors to say, nil being an answer.
type server struct{ says []error }

func (s *server) RoundTrip(*http.Request) (*http.Response, error) {
	err := s.says[0]
	s.says = s.says[1:]
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK}, nil
}

func TestAnAPIServerIsWaitedForOnceItWasReached(t *testing.T) {
	refused, reset := &net.OpError{Op: "dial", Err: errors.New("refused")}, &net.OpError{Op: "read", Err: errors.New("reset")}
	for name, test := range map[string]struct {
		reached  bool
		body     string
		patience time.Duration
		says     []error
		want     error
		left     int // of what the server has to say
	}{
		"not reached yet":       {says: []error{refused, nil}, patience: time.Hour, want: refused, left: 1},
		"reached before":        {reached: true, says: []error{refused, refused, nil}, patience: time.Hour},
		"a connection is lost":  {reached: true, says: []error{refused, reset, nil}, patience: time.Hour, want: reset, left: 1},
		"something to be sent":  {reached: true, body: "an Event", says: []error{refused, nil}, patience: time.Hour, want: refused, left: 1},
		"away for a long while": {reached: true, says: []error{refused, nil}, patience: -time.Second, want: refused, left: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{test.says}
			p := &patient{next: s, pause: time.Millisecond, patience: test.patience}
			p.reached.Store(test.reached)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api", nil)
			if test.body != "" {
				req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api", strings.NewReader(test.body))
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.RoundTrip(req); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if len(s.says) != test.left {
				t.Errorf("%d tries too many or too few", test.left-len(s.says))
			}
		})
	}
}

func TestAnAPIServerIsNotWaitedForAfterTheEnd(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("refused")}
	p := &patient{next: &server{[]error{refused}}, pause: time.Hour, patience: time.Hour}
	p.reached.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.RoundTrip(req); !errors.Is(err, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
}
