package api

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

const namespace = "default"

// objects writes to the API server; what it refuses fails the test.
type objects struct {
	t      *testing.T
	client *kubernetes.Clientset
}

func (o *objects) check(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// service creates a Service with a port named "p", and returns it as stored.
func (o *objects) service(name string, change func(*corev1.ServiceSpec)) *corev1.Service {
	o.t.Helper()
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}}
	s.Spec.Ports = []corev1.ServicePort{{Name: "p", Port: 80}}
	change(&s.Spec)
	s, err := o.client.CoreV1().Services(namespace).Create(context.Background(), s, metav1.CreateOptions{})
	o.check(err)
	return s
}

// update changes a Service and returns it as stored.
func (o *objects) update(name string, change func(*corev1.ServiceSpec)) *corev1.Service {
	o.t.Helper()
	services := o.client.CoreV1().Services(namespace)
	s, err := services.Get(context.Background(), name, metav1.GetOptions{})
	o.check(err)
	change(&s.Spec)
	s, err = services.Update(context.Background(), s, metav1.UpdateOptions{})
	o.check(err)
	return s
}

func (o *objects) removeService(name string) {
	o.t.Helper()
	o.check(o.client.CoreV1().Services(namespace).Delete(context.Background(), name, metav1.DeleteOptions{}))
}

// slice creates an EndpointSlice of a Service.
func (o *objects) slice(service, name string, addrs ...string) {
	o.t.Helper()
	p, port := "p", int32(8080)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &p, Port: &port}},
	}
	if len(addrs) > 0 && strings.Contains(addrs[0], ":") {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	_, err := o.client.DiscoveryV1().EndpointSlices(namespace).Create(context.Background(), s, metav1.CreateOptions{})
	o.check(err)
}

func (o *objects) removeSlice(name string) {
	o.t.Helper()
	o.check(o.client.DiscoveryV1().EndpointSlices(namespace).Delete(context.Background(), name, metav1.DeleteOptions{}))
}

// node creates the Node that pods are on.
func (o *objects) node() {
	o.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}
	_, err := o.client.CoreV1().Nodes().Create(context.Background(), n, metav1.CreateOptions{})
	o.check(err)
}

// pod creates a running Pod with the label app=NAME; there is no kubelet.
func (o *objects) pod(name, app, ip string) {
	o.t.Helper()
	pods := o.client.CoreV1().Pods(namespace)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{NodeName: nodeName, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	p, err := pods.Create(context.Background(), p, metav1.CreateOptions{})
	o.check(err)
	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}},
	}
	_, err = pods.UpdateStatus(context.Background(), p, metav1.UpdateOptions{})
	o.check(err)
}

// manifest reads documents of manifests/svcproxy.
func (o *objects) manifest(name string) []string {
	o.t.Helper()
	text, err := os.ReadFile(filepath.Join("../../manifests/svcproxy", name))
	o.check(err)
	return strings.Split(string(text), "\n---\n")
}

// grant makes the role of the manifests and binds it; change may take from it.
func (o *objects) grant(change func(*rbacv1.ClusterRole)) {
	o.t.Helper()
	var role rbacv1.ClusterRole
	var binding rbacv1.ClusterRoleBinding
	docs := o.manifest("rbac.yaml")
	o.check(yaml.UnmarshalStrict([]byte(docs[0]), &role))
	o.check(yaml.UnmarshalStrict([]byte(docs[1]), &binding))
	change(&role)
	api := o.client.RbacV1()
	_ = api.ClusterRoles().Delete(context.Background(), role.Name, metav1.DeleteOptions{})
	_ = api.ClusterRoleBindings().Delete(context.Background(), binding.Name, metav1.DeleteOptions{})
	_, err := api.ClusterRoles().Create(context.Background(), &role, metav1.CreateOptions{})
	o.check(err)
	_, err = api.ClusterRoleBindings().Create(context.Background(), &binding, metav1.CreateOptions{})
	o.check(err)
}
