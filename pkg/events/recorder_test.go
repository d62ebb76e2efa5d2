package events

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

func started(t *testing.T, client *fake.Clientset) (*Recorder, func() string) {
	t.Helper()
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true), ktesting.AnyToString(func(any) string { return "" })))
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logger))
	t.Cleanup(cancel)
	r := NewRecorder(client, "here")
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	buffer := logger.GetSink().(ktesting.Underlier).GetBuffer()
	return r, func() string { return buffer.String() }
}

func tried(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("waited in vain for an Event to be written")
	}
}

// written waits for a number of Events and returns them, by their reason.
func written(t *testing.T, client *fake.Clientset, n int) map[string]eventsv1.Event {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		list, err := client.EventsV1().Events("").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) >= n {
			out := map[string]eventsv1.Event{}
			for _, e := range list.Items {
				out[e.Reason] = e
			}
			return out
		}
		if time.Now().After(end) {
			t.Fatalf("%d Events, want %d", len(list.Items), n)
		}
	}
}

func TestEventsAreAboutNodeAndServices(t *testing.T) {
	client := fake.NewClientset()
	r, _ := started(t, client)
	tried(t, r.Node(corev1.EventTypeNormal, "Starting", ""))
	r.Service("ns", "web", corev1.EventTypeWarning, "FailedToStartServiceHealthcheck", "Listen", "100% of its ports are taken")
	got := written(t, client, 2)
	type event struct{ namespace, kind, name, eventType, action, note, by string }
	of := func(reason string) event {
		e := got[reason]
		return event{e.Namespace, e.Regarding.Kind, e.Regarding.Name, e.Type, e.Action, e.Note, e.ReportingController}
	}
	for reason, want := range map[string]event{
		"Starting":                        {"default", "Node", "here", "Normal", "StartKubeProxy", "", "svcproxy"},
		"FailedToStartServiceHealthcheck": {"ns", "Service", "web", "Warning", "Listen", "node here: 100% of its ports are taken", "svcproxy"},
	} {
		if diff := cmp.Diff(want, of(reason), cmp.AllowUnexported(event{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", reason, diff)
		}
	}
}

func TestWhoMayNotWriteEventsIsToldOnce(t *testing.T) {
	client := fake.NewClientset()
	var mu sync.Mutex
	asked := 0
	client.PrependReactor("create", "events", func(k8stesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Group: "events.k8s.io", Resource: "events"}, "", errors.New("by no role"))
	})
	r, said := started(t, client)
	for _, reason := range []string{"A", "B", "C"} {
		tried(t, r.Node(corev1.EventTypeWarning, reason, "x"))
	}
	if n := strings.Count(said(), "\n"); n != 1 || !strings.Contains(said(), "Events cannot be written, going on without") || asked != 3 {
		t.Errorf("%d requests, and this was said:\n%s", asked, said())
	}
}

// A namespace that goes away takes no Events: that is no lack of rights.
func TestEventsInANamespaceThatGoes(t *testing.T) {
	client := fake.NewClientset()
	refusal := apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "", errors.New("it is being terminated"))
	refusal.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	client.PrependReactor("create", "events", func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, refusal })
	r, said := started(t, client)
	tried(t, r.Node(corev1.EventTypeWarning, "A", "x"))
	if said() != "" {
		t.Errorf("said %s", said())
	}
}

// An API server that does not answer holds nobody up, nor does a flood of Events.
func TestNobodyWaitsForEvents(t *testing.T) {
	client := fake.NewClientset()
	hang := make(chan struct{})
	defer close(hang)
	client.PrependReactor("create", "events", func(k8stesting.Action) (bool, runtime.Object, error) { <-hang; return false, nil, nil })
	r, _ := started(t, client)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 5000 {
			r.Service("ns", "web", corev1.EventTypeWarning, "Reason", "Action", "note")
		}
	}()
	tried(t, done)
}

func TestEventsOnServicesAreLimited(t *testing.T) {
	client := fake.NewClientset()
	r, _ := started(t, client)
	start := time.Now()
	for i := range 500 {
		r.Service("ns", "svc-"+strings.Repeat("x", i%60), corev1.EventTypeNormal, strings.Repeat("R", 1+i%100), "Action", "note")
	}
	tried(t, r.Node(corev1.EventTypeNormal, "Last", ""))
	time.Sleep(100 * time.Millisecond) // for those that must not come
	list, err := client.EventsV1().Events("ns").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if most := serviceBurst + 1 + int(time.Since(start).Seconds()); len(list.Items) > most || len(list.Items) == 0 {
		t.Errorf("%d Events, want %d at the most", len(list.Items), most)
	}
}

func TestNotesAreCut(t *testing.T) {
	for _, note := range []string{"short", strings.Repeat("x", maxNote), strings.Repeat("é", maxNote)} {
		got := short(note)
		if len(got) > maxNote || len(note) <= maxNote && got != note || strings.ContainsRune(got, '\uFFFD') {
			t.Errorf("%d bytes are cut to %d", len(note), len(got))
		}
	}
}

func TestNoRecorder(t *testing.T) {
	var r *Recorder
	r.Service("ns", "web", corev1.EventTypeWarning, "Reason", "Action", "note")
	tried(t, r.Node(corev1.EventTypeNormal, "Starting", ""))
}
