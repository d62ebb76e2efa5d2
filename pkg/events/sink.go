package events

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
)

// sink hands Events to the API server. Who may not write any is told so once: an
// older role does not allow it, and a service proxy works all the same.
type sink struct {
	events.EventSinkImpl

	mu      sync.Mutex
	tried   map[string]chan struct{} // by the reason of Events on the Node; closed after the first try
	refused bool
}

func newSink(client kubernetes.Interface) *sink {
	return &sink{EventSinkImpl: events.EventSinkImpl{Interface: client.EventsV1()}, tried: map[string]chan struct{}{}}
}

// expect returns what is closed after the first try to write an Event on the Node
// with the reason.
func (s *sink) expect(reason string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tried[reason] == nil {
		s.tried[reason] = make(chan struct{})
	}
	return s.tried[reason]
}

// Create is part of events.EventSink.
func (s *sink) Create(ctx context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	stored, err := s.EventSinkImpl.Create(ctx, e)
	return s.done(ctx, e, stored, err)
}

// Patch is part of events.EventSink.
func (s *sink) Patch(ctx context.Context, e *eventsv1.Event, data []byte) (*eventsv1.Event, error) {
	stored, err := s.EventSinkImpl.Patch(ctx, e, data)
	return s.done(ctx, e, stored, err)
}

// done makes a refusal a success: client-go would log each with the whole Event.
func (s *sink) done(ctx context.Context, e, stored *eventsv1.Event, err error) (*eventsv1.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if apierrors.IsForbidden(err) {
		leaving := apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
		if !s.refused && !leaving {
			klog.FromContext(ctx).Info("Events cannot be written, going on without", "reason", err.Error())
		}
		s.refused = s.refused || !leaving
		stored, err = e, nil
	}
	s.notify(e)
	return stored, err
}

// notify closes what was expected of the Event. The caller holds mu.
func (s *sink) notify(e *eventsv1.Event) {
	c := s.tried[e.Reason]
	if e.Regarding.Kind != "Node" || c == nil {
		return
	}
	select {
	case <-c:
	default:
		close(c)
	}
}
