package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"svcproxy/hack/internal/echo"
	"svcproxy/hack/internal/surroundings"
)

const (
	namespace = "default"
	nodeName  = "node"
)

// objects are those in the API server.
type objects struct{ client *kubernetes.Clientset }

// apiPatience is how long a request may take.
const apiPatience = 5 * time.Second

// node creates the Node.
func (o *objects) node(ctx context.Context) error {
	nodes := o.client.CoreV1().Nodes()
	n, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create Node: %w", err)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: surroundings.NodeAddress.String()}}
	_, err = nodes.UpdateStatus(ctx, n, metav1.UpdateOptions{})
	return err
}

// createService creates a Service with port 80 over TCP and UDP, and returns it as
// stored.
func (o *objects) createService(ctx context.Context, name string, kind corev1.ServiceType) (*corev1.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{
		{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: 80}, {Name: "udp", Protocol: corev1.ProtocolUDP, Port: 80},
	}}}
	s, err := o.client.CoreV1().Services(namespace).Create(ctx, s, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create Service %s: %w", name, err)
	}
	return s, nil
}

// deleteService deletes a Service and its endpoints, as far as they are there.
func (o *objects) deleteService(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	if err := o.client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Service %s: %w", name, err)
	}
	if err := o.client.DiscoveryV1().EndpointSlices(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete EndpointSlice %s: %w", name, err)
	}
	return nil
}

// createEndpoints gives a Service its first endpoints.
func (o *objects) createEndpoints(ctx context.Context, service string, pods []int) error {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	if _, err := o.client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, newSlice(service, pods), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create EndpointSlice %s: %w", service, err)
	}
	return nil
}

// setEndpoints replaces them.
func (o *objects) setEndpoints(ctx context.Context, service string, pods []int) error {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	if _, err := o.client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, newSlice(service, pods), metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update EndpointSlice %s: %w", service, err)
	}
	return nil
}

func newSlice(service string, pods []int) *discoveryv1.EndpointSlice {
	port, node := int32(echo.Port), nodeName
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for name, protocol := range map[string]corev1.Protocol{"tcp": corev1.ProtocolTCP, "udp": corev1.ProtocolUDP} {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &port})
	}
	for _, i := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{surroundings.Pod(i).String()}, NodeName: &node})
	}
	return s
}

// answers is what pods answer with.
func answers(pods []int) []string {
	var out []string
	for _, i := range pods {
		out = append(out, netip.AddrPortFrom(surroundings.Pod(i), echo.Port).String())
	}
	return out
}
