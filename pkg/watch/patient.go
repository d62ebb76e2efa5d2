package watch

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"
)

// Patient returns a transport that waits for an API server that cannot be reached, once
// it has been. client-go instead gives each try up, and waits ever longer before the
// next one: up to a minute (tools/cache/reflector.go), in which a node would go on to
// send connections to pods that are gone although the API server is back. A try that
// finds nobody costs nobody anything.
func Patient(next http.RoundTripper) http.RoundTripper {
	return &patient{next: next, pause: dialPause, patience: dialPatience}
}

const (
	// dialPause is the least time between two tries, and twice that the longest one: the
	// nodes of a cluster are not to come all at once.
	dialPause = 2 * time.Second
	// dialPatience is how long a request waits before it fails after all, and is told of.
	dialPatience = time.Minute
)

type patient struct {
	next            http.RoundTripper
	pause, patience time.Duration
	reached, away   atomic.Bool
}

// RoundTrip tries a request without a body until there is an answer, or an error that
// is not about a connection that cannot be made.
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	for end := time.Now().Add(p.patience); ; {
		resp, err := p.next.RoundTrip(req)
		if err == nil {
			p.reached.Store(true)
			if p.away.Swap(false) {
				klog.FromContext(ctx).Info("The API server can be reached again")
			}
		}
		if !unreachable(err) || !p.reached.Load() || req.Body != nil || time.Now().After(end) {
			return resp, err
		}
		if !p.away.Swap(true) {
			klog.FromContext(ctx).Error(err, "The API server cannot be reached, rules stay as they are")
		}
		select {
		case <-time.After(p.pause + rand.N(p.pause)):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// unreachable reports whether no connection could be made: then nothing was sent.
func unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
