package main

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcproxy/pkg/events"
	"svcproxy/pkg/proxy"
)

// recorder returns what writes Events until ctx ends; nil where objects come from
// files. It has a client of its own, so that no watch waits for an Event.
func (o *options) recorder(ctx context.Context, m *proxy.Metrics) (*events.Recorder, error) {
	if len(o.files) > 0 {
		return nil, nil
	}
	client, err := o.client(m)
	if err != nil {
		return nil, err
	}
	r := events.NewRecorder(client, o.settings.nodeName)
	return r, r.Start(ctx)
}

// telling returns what writes an Event on a Service.
func telling(r *events.Recorder) func(proxy.ServiceEvent) {
	return func(e proxy.ServiceEvent) {
		eventType := corev1.EventTypeNormal
		if e.Warning {
			eventType = corev1.EventTypeWarning
		}
		r.Service(e.Namespace, e.Name, eventType, e.Reason, e.Action, e.Message)
	}
}

// patience is how long the end waits for its Event.
const patience = 2 * time.Second

// The flags of the two servers.
const (
	healthzFlag = "healthz-bind-address"
	metricsFlag = "metrics-bind-address"
)

// notServed has, by the flag of a server, the reason of the Event that it cannot start.
var notServed = map[string]string{healthzFlag: "FailedToStartProxierHealthcheck", metricsFlag: "FailedToStartMetricServer"}

// tellTaken tells at the Node which servers cannot start, if that is why svcproxy ends.
func tellTaken(ctx context.Context, e *events.Recorder, why error) {
	var taken *proxy.TakenError
	if errors.As(why, &taken) {
		for _, flag := range taken.Flags {
			lastWords(ctx, e, notServed[flag], why)
		}
	}
}

// lastWords tells at the Node why svcproxy ends.
func lastWords(ctx context.Context, e *events.Recorder, reason string, why error) {
	select {
	case <-e.Node(corev1.EventTypeWarning, reason, why.Error()):
	case <-time.After(patience):
	case <-ctx.Done():
	}
}
