package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// event is the changing endpoint in an EndpointSlice, and when its event came.
type event struct {
	pod netip.Addr
	at  time.Time
}

// watchSlice hands out the events of a slice for as long as ctx lasts; the API
// server ends a watch from time to time.
func (o *objects) watchSlice(ctx context.Context, name string) (<-chan event, error) {
	begin := func() (watch.Interface, error) {
		return o.client.DiscoveryV1().EndpointSlices(namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	}
	w, err := begin()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", name, err)
	}
	out := make(chan event, 1000)
	go func() {
		defer close(out)
		for ; err == nil; w, err = begin() {
			for e := range w.ResultChan() {
				if s, ok := e.Object.(*discoveryv1.EndpointSlice); ok {
					out <- event{netip.MustParseAddr(s.Endpoints[0].Addresses[0]), time.Now()}
				}
			}
		}
	}()
	return out, nil
}

// heard returns when the event of an endpoint came.
func (b *bench) heard(ctx context.Context, p netip.AddrPort) (time.Time, error) {
	for {
		select {
		case e, ok := <-b.changes:
			if !ok {
				return time.Time{}, errors.New("the watch ended")
			}
			if e.pod == p.Addr() {
				return e.at, nil
			}
		case <-time.After(10 * time.Second):
			return time.Time{}, fmt.Errorf("no event of %s", p)
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}
