// Package events writes Events of the API events.k8s.io: what a service proxy has
// to tell about its Node and about Services, where their users look for it.
package events

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
)

// controller is the name under which Events are written.
const controller = "svcproxy"

// Events on Services are this many at once, and one in a second for longer: a
// cluster has many nodes, and Events are for people to read.
const (
	serviceBurst = 25
	serviceRate  = rate.Limit(1)
)

// maxNote is the length of a note that the API takes, in bytes.
const maxNote = 1024

// Recorder writes Events in the background: nobody waits for the API server. Equal
// ones become a series, whose first note stays. One that cannot be written is
// tried again for two minutes, and then lost. A nil Recorder writes none.
type Recorder struct {
	node        string
	broadcaster events.EventBroadcaster
	recorder    events.EventRecorder
	sink        *sink
	onServices  *rate.Limiter
}

// NewRecorder returns a recorder for the node of that name, which writes nothing
// before Start. The client should be its own one: requests wait for each other.
func NewRecorder(client kubernetes.Interface, node string) *Recorder {
	s := newSink(client)
	b := events.NewBroadcaster(s)
	return &Recorder{node: node, broadcaster: b, recorder: b.NewRecorder(scheme.Scheme, controller), sink: s,
		onServices: rate.NewLimiter(serviceRate, serviceBurst)}
}

// Start writes Events until ctx ends. Those from before are lost.
func (r *Recorder) Start(ctx context.Context) error {
	if err := r.broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return fmt.Errorf("write Events: %w", err)
	}
	return nil
}

// Node writes an Event on the own Node. eventType is Normal or Warning, reason a
// word in upper camel case, note a sentence; empty: the reason says it. What is
// returned is closed after the first try to write an Event with this reason.
func (r *Recorder) Node(eventType, reason, note string) (tried <-chan struct{}) {
	if r == nil {
		return closed()
	}
	tried = r.sink.expect(reason)
	// The reference is kube-proxy's, as are its reasons and the action.
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: r.node}
	r.recorder.Eventf(ref, nil, eventType, reason, "StartKubeProxy", "%s", short(note))
	return tried
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Service writes an Event on a Service. eventType is Normal or Warning; reason and
// action are words in upper camel case, note a sentence, before which the node is
// named.
func (r *Recorder) Service(namespace, name, eventType, reason, action, note string) {
	if r == nil {
		return
	}
	if !r.onServices.Allow() {
		klog.Background().V(2).Info("Too many Events, one is left out", "service", klog.KRef(namespace, name), "reason", reason)
		return
	}
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: namespace, Name: name}
	r.recorder.Eventf(ref, nil, eventType, reason, action, "%s", short("node "+r.node+": "+note))
}

// short cuts a note to what the API takes.
func short(note string) string {
	if len(note) <= maxNote {
		return note
	}
	const cut = "..."
	return strings.ToValidUTF8(note[:maxNote-len(cut)], "") + cut
}
