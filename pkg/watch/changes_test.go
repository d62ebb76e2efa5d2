package watch

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"svcproxy/pkg/rules"
)

// caused returns a slice that a change at the given time made what it is.
func caused(at time.Time, name string, addrs ...string) *endpointSlice {
	api := apiSlice(name, addrs...)
	if len(addrs) > 0 && strings.Contains(addrs[0], ":") {
		api.AddressType = discoveryv1.AddressTypeIPv6
	}
	api.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at.Format(time.RFC3339Nano)}
	return convertSlice(api)
}

func TestTriggersAreThoseOfChangesSinceTheStart(t *testing.T) {
	x := newIndex("here")
	now := time.Now().Add(time.Second).Truncate(time.Microsecond)
	x.setSlice(caused(now.Add(-time.Hour), "before-the-start", "10.21.0.1"))
	x.setSlice(caused(now, "web-1", "10.21.0.2"))
	x.setSlice(caused(now.Add(1), "web-1", "10.21.0.3"))
	x.setSlice(caused(now.Add(time.Second), "web-1")) // scaled to nothing
	x.setSlice(caused(now, "web-6", "fd00::1"))
	x.setSlice(caused(now, "nobody"))
	x.setSlice(convertSlice(apiSlice("without", "10.21.0.4")))
	got := x.changes.TakeTriggers()
	want := fmt.Sprint([]time.Time{now.Local(), now.Local(), now.Add(time.Second).Local()})
	if fmt.Sprint(got[rules.IPv4]) != want || fmt.Sprint(got[rules.IPv6]) != fmt.Sprint([]time.Time{now.Local()}) {
		t.Errorf("triggers %v, want %v, and one of IPv6", got, want)
	}
	if again := x.changes.TakeTriggers(); len(again) != 0 {
		t.Errorf("they are taken twice: %v", again)
	}
	if c := x.changes.Counts(); c.EndpointSlices != 7 || c.PendingEndpointSlices != 7 || c.Last.IsZero() {
		t.Errorf("counts %+v, want 7 slices", c)
	}
}

func TestADeletedSliceHasNoTrigger(t *testing.T) {
	x := newIndex("here")
	s := caused(time.Now().Add(time.Second), "web-1", "10.21.0.2")
	x.setSlice(s)
	x.deleteSlice(s)
	if got := x.changes.TakeTriggers(); len(got) != 0 || x.changes.held != 0 {
		t.Errorf("triggers %v, %d held", got, x.changes.held)
	}
}

// A slice whose annotation alone is new is no change.
func TestACauseIsNoChange(t *testing.T) {
	before, after := caused(time.Now(), "web-1", "10.21.0.1"), caused(time.Now().Add(time.Second), "web-1", "10.21.0.1")
	if !same(before, after) || before.triggered == after.triggered {
		t.Errorf("%+v and %+v differ", before, after)
	}
}

func TestTriggersAreBounded(t *testing.T) {
	x := newIndex("here")
	for i := range maxTriggers + 10 {
		x.setSlice(caused(time.Now().Add(time.Second), "web-1", fmt.Sprintf("10.21.%d.%d", i/250, i%250+1)))
	}
	if n := len(x.changes.TakeTriggers()[rules.IPv4]); n != maxTriggers {
		t.Errorf("%d triggers, want %d", n, maxTriggers)
	}
	x.setSlice(caused(time.Now().Add(time.Second), "web-1", "10.22.0.1"))
	if n := len(x.changes.TakeTriggers()[rules.IPv4]); n != 1 {
		t.Errorf("%d triggers after they were taken, want 1", n)
	}
}

func TestChangesOfAClusterAreCounted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	svc, eps := apiService("10.96.0.1"), apiSlice("web-1", "10.21.0.1")
	client := fake.NewClientset(svc, eps)
	c := NewCluster(client, "here")
	go func() { _ = c.Run(ctx) }()
	wait(t, c.Changed(), "the first state", func() bool { return true })
	if n := c.Changes().Counts(); n.PendingServices != 1 || n.PendingEndpointSlices != 1 {
		t.Errorf("before the first snapshot %+v, want one of each pending", n)
	}
	c.Snapshot()

	at := time.Now().Add(time.Second)
	touched := eps.DeepCopy() // a change that is none
	touched.ResourceVersion = "6"
	touched.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at.Format(time.RFC3339Nano)}
	changed := touched.DeepCopy()
	changed.ResourceVersion, changed.Endpoints[0].Addresses = "7", []string{"10.21.0.2"}
	for _, s := range []*discoveryv1.EndpointSlice{touched, changed} {
		if _, err := client.DiscoveryV1().EndpointSlices("ns").Update(ctx, s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, c.Changed(), "the slice changed", func() bool { return true })
	n := c.Changes().Counts()
	if n.Services != 1 || n.PendingServices != 0 || n.EndpointSlices != 2 || n.PendingEndpointSlices != 1 {
		t.Errorf("after a change %+v", n)
	}
	if got := c.Changes().TakeTriggers()[rules.IPv4]; len(got) != 1 || got[0].UnixMicro() != at.UnixMicro() {
		t.Errorf("triggers %v, want %v", got, at)
	}
}

// Files are read as a whole; what did not change in them is no change.
func TestChangesOfFilesAreCounted(t *testing.T) {
	dir := t.TempDir()
	replace(t, filepath.Join(dir, "service.yaml"), service)
	replace(t, filepath.Join(dir, "slice.yaml"), slice("10.21.0.1"))
	f := NewFiles([]string{dir}, "here", nil)
	load := func(services, slices uint64) {
		t.Helper()
		if err := f.load(); err != nil {
			t.Fatal(err)
		}
		if n := f.Changes().Counts(); n.Services != services || n.EndpointSlices != slices {
			t.Errorf("%+v, want %d Services and %d slices", n, services, slices)
		}
		f.Snapshot()
	}
	load(1, 1)
	load(1, 1)
	replace(t, filepath.Join(dir, "slice.yaml"), slice("10.21.0.2"))
	load(1, 2)
	replace(t, filepath.Join(dir, "service.yaml"), strings.ReplaceAll(service, "10.96.0.1", "10.96.0.2"))
	load(2, 2)
	replace(t, filepath.Join(dir, "slice.yaml"), strings.ReplaceAll(slice("10.21.0.2"), "service-name: web", "service-name: other"))
	load(2, 4) // gone from one, come to the other
	replace(t, filepath.Join(dir, "slice.yaml"), "# none\n")
	replace(t, filepath.Join(dir, "service.yaml"), "# none\n")
	load(3, 5)
}
