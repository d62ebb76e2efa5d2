package watch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

func apiSlice(name string, addrs ...string) *discoveryv1.EndpointSlice {
	port := int32(80)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: "ns", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: &port}}, // no name, no protocol: the API's defaults
	}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

func apiService(ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "ns"},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

func TestClusterFollowsServicesSlicesAndNode(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here", Labels: map[string]string{corev1.LabelTopologyZone: "z"}}}
	client := fake.NewClientset(node, apiSlice("web-1", "10.21.0.1"))
	c := NewCluster(client, "here")
	select {
	case <-c.Changed():
		t.Fatal("a change before anything was read")
	default:
	}
	go func() { _ = c.Run(ctx) }()
	wait(t, c.Changed(), "slice before its Service", func() bool {
		snap, _ := c.Snapshot()
		return len(snap.Services) == 0 && snap.Node.Zone == "z"
	})
	if _, ps := c.Snapshot(); len(ps) != 0 {
		t.Errorf("a slice that came before its Service is a problem: %v", ps)
	}
	create := metav1.CreateOptions{}
	if _, err := client.CoreV1().Services("ns").Create(ctx, apiService("10.96.0.1"), create); err != nil {
		t.Fatal(err)
	}
	wait(t, c.Changed(), "Service added", func() bool { snap, _ := c.Snapshot(); return served(snap) == "10.21.0.1:80" })
	if err := client.CoreV1().Services("ns").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, c.Changed(), "Service deleted", func() bool { snap, _ := c.Snapshot(); return len(snap.Services) == 0 })
	if _, err := client.CoreV1().Services("ns").Create(ctx, apiService("10.96.0.2"), create); err != nil {
		t.Fatal(err)
	}
	wait(t, c.Changed(), "Service created again", func() bool {
		snap, _ := c.Snapshot()
		return len(snap.Services) == 1 && snap.Services[0].ClusterIPs[0].String() == "10.96.0.2"
	})

	heartbeat := node.DeepCopy()
	heartbeat.ResourceVersion = "7"
	heartbeat.Annotations = map[string]string{"beat": "1"}
	heartbeat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
	if _, err := client.CoreV1().Nodes().Update(ctx, heartbeat, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Changed():
		t.Error("a Node's heartbeat counts as a change")
	case <-time.After(200 * time.Millisecond):
	}
}

func TestClusterFollowsASliceToAnotherService(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	other := apiService("10.96.0.2")
	other.Name = "other"
	eps := apiSlice("web-1", "10.21.0.1")
	client := fake.NewClientset(apiService("10.96.0.1"), other, eps)
	c := NewCluster(client, "here")
	go func() { _ = c.Run(ctx) }()
	has := func(others, webs int) func() bool {
		return func() bool {
			snap, _ := c.Snapshot()
			return len(snap.Services) == 2 && len(snap.Services[0].Ports[0].Endpoints) == others && len(snap.Services[1].Ports[0].Endpoints) == webs
		}
	}
	wait(t, c.Changed(), "the first state", has(0, 1))
	moved := eps.DeepCopy()
	moved.ResourceVersion, moved.Labels[discoveryv1.LabelServiceName] = "7", "other"
	if _, err := client.DiscoveryV1().EndpointSlices("ns").Update(ctx, moved, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, c.Changed(), "the slice is the other's", has(1, 0))
}

// API servers before 1.33 have no ServiceCIDRs, and older roles do not allow them.
func TestClusterWithoutServiceCIDRs(t *testing.T) {
	resource := schema.GroupResource{Group: "networking.k8s.io", Resource: "servicecidrs"}
	for name, refusal := range map[string]error{
		"not there":   apierrors.NewNotFound(resource, ""),
		"not allowed": apierrors.NewForbidden(resource, "", errors.New("by no role")),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			client := fake.NewClientset(apiService("10.96.0.1"), apiSlice("web-1", "10.21.0.1"))
			client.PrependReactor("list", "servicecidrs", func(k8stesting.Action) (bool, runtime.Object, error) { return true, nil, refusal })
			c := NewCluster(client, "here")
			go func() { _ = c.Run(ctx) }()
			wait(t, c.Changed(), "the first state", func() bool { snap, _ := c.Snapshot(); return served(snap) == "10.21.0.1:80" })
		})
	}
}

func TestClusterFollowsServiceCIDRs(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := fake.NewClientset()
	c := NewCluster(client, "here")
	go func() { _ = c.Run(ctx) }()
	is := func(want string) func() bool {
		return func() bool { snap, _ := c.Snapshot(); return fmt.Sprint(snap.ServiceCIDRs) == want }
	}
	wait(t, c.Changed(), "the first state", is("[]"))
	api := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}}
	if _, err := client.NetworkingV1().ServiceCIDRs().Create(ctx, api, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, c.Changed(), "one added", is("[10.96.0.0/16]"))
	if err := client.NetworkingV1().ServiceCIDRs().Delete(ctx, "kubernetes", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, c.Changed(), "it is gone", is("[]"))
}
