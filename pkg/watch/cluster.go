// Package watch follows Services, EndpointSlices and the own Node, in a cluster
// or in files, and hands them out as the values of package rules. It is the only
// package that knows API types.
package watch

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"svcproxy/pkg/rules"
)

// Cluster follows the objects of an API server.
type Cluster struct {
	client   kubernetes.Interface
	nodeName string
	index    *index
	signal   signal
}

// NewCluster returns a source that does nothing before Run. The Node of that
// name need not exist: without it zone and addresses are unknown, and it counts as
// leaving; of one that is deleted they stay known.
func NewCluster(client kubernetes.Interface, nodeName string) *Cluster {
	x := newIndex(nodeName)
	x.needsNode = true
	return &Cluster{client: client, nodeName: nodeName, index: x, signal: newSignal()}
}

// Changed gets a value after changes, the first one when all objects are known.
func (c *Cluster) Changed() <-chan struct{} { return c.signal.c }

// Changes counts the changes of objects.
func (c *Cluster) Changes() *Changes { return c.index.changes }

// Snapshot returns the state of now and what is wrong with the objects.
func (c *Cluster) Snapshot() (*rules.Snapshot, []Problem) { return c.index.snapshot() }

// Run follows the cluster until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	factories := c.factories()
	synced, err := c.subscribe(factories)
	if err != nil {
		return err
	}
	for _, f := range factories.all() {
		f.Start(ctx.Done())
		defer f.Shutdown()
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return errors.Join(errors.New("ended before all objects were known"), ctx.Err())
	}
	c.signal.open()
	<-ctx.Done()
	return nil
}

// factories make the informers; each kind of object has a selector of its own.
type factories struct {
	services, slices, nodes, cidrs informers.SharedInformerFactory
}

func (f *factories) all() []informers.SharedInformerFactory {
	return []informers.SharedInformerFactory{f.services, f.slices, f.nodes, f.cidrs}
}

func (c *Cluster) factories() *factories {
	build := func(tweak func(*metav1.ListOptions)) informers.SharedInformerFactory {
		return informers.NewSharedInformerFactoryWithOptions(c.client, 0,
			informers.WithTweakListOptions(tweak), informers.WithTransform(strip))
	}
	return &factories{
		services: build(func(o *metav1.ListOptions) { o.LabelSelector = "!" + labelProxyName }),
		// A headless Service's slices are never used.
		slices: build(func(o *metav1.ListOptions) { o.LabelSelector = "!" + labelProxyName + ",!" + corev1.IsHeadlessService }),
		nodes: build(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", c.nodeName).String()
		}),
		cidrs: build(func(*metav1.ListOptions) {}),
	}
}

// subscribe makes the informers feed the index. It returns what says that each
// has handed over all there was.
func (c *Cluster) subscribe(f *factories) ([]cache.InformerSynced, error) {
	cidrs := f.cidrs.Networking().V1().ServiceCIDRs().Informer()
	var synced []cache.InformerSynced
	for _, i := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{f.services.Core().V1().Services().Informer(), c.serviceHandler()},
		{f.slices.Discovery().V1().EndpointSlices().Informer(), c.sliceHandler()},
		{f.nodes.Core().V1().Nodes().Informer(), handler(c, same, c.index.setNode, c.index.dropNode)},
		{cidrs, handler(c, same, c.index.setServiceCIDR, c.index.deleteServiceCIDR)},
	} {
		registration, err := i.informer.AddEventHandler(i.handler)
		if err != nil {
			return nil, err
		}
		known := registration.HasSynced
		if i.informer == cidrs {
			if known, err = optional(cidrs, known); err != nil {
				return nil, err
			}
		}
		synced = append(synced, known)
	}
	return synced, nil
}

func (c *Cluster) serviceHandler() cache.ResourceEventHandler {
	return handler(c, c.index.sameService, c.index.setService, func(s *bareService) { c.index.deleteService(s.key) })
}

func (c *Cluster) sliceHandler() cache.ResourceEventHandler {
	return handler(c, same, c.index.setSlice, c.index.deleteSlice)
}

// handler feeds the index and signals; an update without a change that matters,
// such as a Node's heartbeat, does neither.
func handler[T any](c *Cluster, same func(a, b T) bool, set, remove func(T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if o, ok := obj.(T); ok {
				set(o)
				c.signal.raise()
			}
		},
		UpdateFunc: func(old, obj any) {
			before, ok1 := old.(T)
			after, ok2 := obj.(T)
			if !ok1 || !ok2 || same(before, after) {
				return
			}
			if moved(before, after) {
				remove(before)
			}
			set(after)
			c.signal.raise()
		},
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if o, ok := obj.(T); ok {
				remove(o)
				c.signal.raise()
			}
		},
	}
}

// moved reports whether a slice has got another Service: the index would keep it
// with both.
func moved(before, after any) bool {
	b, ok1 := before.(*endpointSlice)
	a, ok2 := after.(*endpointSlice)
	return ok1 && ok2 && b.service != a.service
}
