package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"svcproxy/hack/internal/controlplane"
)

const (
	namespace = "default"
	writers   = 64
	// perSlice is what the endpoint slice controller puts into one.
	perSlice = 100
)

// objects are those in the API server. Services are only ever added, so that
// every size is written once, however many proxies read it.
type objects struct {
	client     *kubernetes.Clientset
	kubeconfig string
	ips        []netip.Addr // of the Services to come too
	services   int
	slices     int // of the first Service
}

// newObjects starts a control plane, which ends with the bench; ips is how many
// Services there will be at most.
func newObjects(ctx context.Context, bin string, ips int) (*objects, error) {
	dir, admin := filepath.Join(scratch, "control-plane"), controlplane.Admin()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	c, err := controlplane.New(controlplane.Config{
		Bin: bin, Dir: dir, Address: controlIP, ServiceCIDRs: serviceNetwork.String(),
		Authorization: "AlwaysAllow", Users: []controlplane.User{admin},
	})
	if err != nil {
		return nil, err
	}
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	client, err := c.Client(admin.Token)
	return &objects{client: client, kubeconfig: c.Kubeconfig(admin), ips: clusterIPs(ips)}, err
}

// scale adds Services with two endpoints each, up to n.
func (o *objects) scale(ctx context.Context, n int) error {
	from := o.services
	o.services = max(from, n)
	return inParallel(from, n, func(i int) error {
		if err := o.createService(ctx, i); err != nil {
			return fmt.Errorf("create Service %d: %w", i, err)
		}
		pods := []netip.AddrPort{pod(firstPod + 2*i), pod(firstPod + 2*i + 1)}
		if i == 0 {
			pods, o.slices = []netip.AddrPort{pod(podA), pod(podC)}, 1
		}
		return o.createSlice(ctx, i, 0, pods)
	})
}

// spread gives the first Service n endpoints.
func (o *objects) spread(ctx context.Context, n int) error {
	from, to := o.slices, 1+(n-2+perSlice-1)/perSlice
	if to > from {
		o.slices = to
	}
	return inParallel(from, to, func(i int) error {
		var pods []netip.AddrPort
		for k := (i - 1) * perSlice; k < min(i*perSlice, n-2); k++ {
			pods = append(pods, pod(firstPod+k))
		}
		return o.createSlice(ctx, 0, i, pods)
	})
}

// gather takes those endpoints away again.
func (o *objects) gather(ctx context.Context) error {
	from, to := 1, o.slices
	o.slices = min(o.slices, 1)
	return inParallel(from, to, func(i int) error {
		return o.client.DiscoveryV1().EndpointSlices(namespace).Delete(ctx, sliceName(0, i), metav1.DeleteOptions{})
	})
}

// setEndpoint makes the changing one of the first Service's endpoints this.
func (o *objects) setEndpoint(ctx context.Context, p netip.AddrPort) error {
	s := newSlice(0, 0, []netip.AddrPort{p, pod(podC)})
	_, err := o.client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, s, metav1.UpdateOptions{})
	return err
}

func (o *objects) createService(ctx context.Context, i int) error {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName(i)},
		Spec:       corev1.ServiceSpec{ClusterIP: o.ips[i].String(), Ports: []corev1.ServicePort{{Port: servicePort}}},
	}
	services := o.client.CoreV1().Services(namespace)
	return patiently(func(again bool) error {
		if again {
			if _, err := services.Get(ctx, s.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return err
			}
		}
		_, err := services.Create(ctx, s, metav1.CreateOptions{})
		return err
	})
}

// patiently makes a request until the API server has had the time for it: etcd takes
// long now and then while many objects are written. again says that it was made
// before, and may have been carried out.
func patiently(request func(again bool) error) error {
	again := false
	return retry.OnError(wait.Backoff{Duration: time.Second, Factor: 2, Steps: 5}, apierrors.IsTimeout, func() error {
		err := request(again)
		again = true
		return err
	})
}

func (o *objects) createSlice(ctx context.Context, service, i int, pods []netip.AddrPort) error {
	err := patiently(func(again bool) error {
		_, err := o.client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, newSlice(service, i, pods), metav1.CreateOptions{})
		if again && apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("create EndpointSlice %s: %w", sliceName(service, i), err)
	}
	return nil
}

// node creates the Node of a network namespace.
func (o *objects) node(ctx context.Context, ns *netns) error {
	nodes := o.client.CoreV1().Nodes()
	n, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: ns.name()}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create Node: %w", err)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ns.nodeIP.String()}}
	if _, err := nodes.UpdateStatus(ctx, n, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("give Node %s its address: %w", ns.name(), err)
	}
	return nil
}

func serviceName(i int) string  { return fmt.Sprintf("service-%05d", i) }
func sliceName(i, k int) string { return fmt.Sprintf("%s-%d", serviceName(i), k) }

func newSlice(service, i int, pods []netip.AddrPort) *discoveryv1.EndpointSlice {
	name, protocol, port, ready := "", corev1.ProtocolTCP, int32(podPort), true
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: sliceName(service, i), Labels: map[string]string{discoveryv1.LabelServiceName: serviceName(service)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Protocol: &protocol, Port: &port}},
	}
	for _, p := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	return s
}

// inParallel does work for all numbers from from to below to, and returns the
// first error.
func inParallel(from, to int, work func(i int) error) error {
	next := make(chan int)
	failed := make(chan error, writers)
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for i := range next {
				if err := work(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	var err error
	for i := from; i < to && err == nil; i++ {
		select {
		case next <- i:
		case err = <-failed:
		}
	}
	close(next)
	group.Wait()
	if err == nil && len(failed) > 0 {
		err = <-failed
	}
	return err
}
