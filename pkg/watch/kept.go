package watch

import (
	"reflect"
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// strip keeps of an object what we need. The rest would be held in memory for
// every object of the cluster, and its changes would wake us up for nothing.
// There are many Services and slices, so those become types of our own.
func strip(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		return convertService(o), nil
	case *discoveryv1.EndpointSlice:
		return convertSlice(o), nil
	case *corev1.Node:
		n := &corev1.Node{
			ObjectMeta: stripMeta(&o.ObjectMeta),
			Spec:       corev1.NodeSpec{PodCIDR: o.Spec.PodCIDR, PodCIDRs: o.Spec.PodCIDRs},
			Status:     corev1.NodeStatus{Addresses: o.Status.Addresses},
		}
		n.DeletionTimestamp = o.DeletionTimestamp
		if leaving := slices.IndexFunc(o.Spec.Taints, isToBeDeleted); leaving >= 0 {
			n.Spec.Taints = []corev1.Taint{{Key: o.Spec.Taints[leaving].Key}}
		}
		if zone, ok := o.Labels[corev1.LabelTopologyZone]; ok {
			n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
		}
		return n, nil
	case *networkingv1.ServiceCIDR:
		return &networkingv1.ServiceCIDR{ObjectMeta: stripMeta(&o.ObjectMeta), Spec: o.Spec}, nil
	}
	return obj, nil
}

func stripMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, ResourceVersion: m.ResourceVersion}
}

// ident is what informers want to know of an object.
type ident struct {
	key
	version string
}

func identOf(m *metav1.ObjectMeta) ident {
	return ident{key{intern(m.Namespace), m.Name}, m.ResourceVersion}
}

// GetObjectMeta makes the metadata anew each time: kept, they would be most of
// the object.
func (i *ident) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Name: i.name, Namespace: i.namespace, ResourceVersion: i.version}
}

// intern returns a string that equal ones share, as long as one of them came
// since the last garbage collection. Forgetting the others is what keeps names
// that are gone from piling up.
func intern(s string) string { return unique.Make(s).Value() }

// same compares stripped objects without their versions.
func same[T any](a, b T) bool { return reflect.DeepEqual(unversioned(a), unversioned(b)) }

// unversioned returns a shallow copy: the object itself belongs to the informer.
func unversioned(obj any) any {
	switch o := obj.(type) {
	case *endpointSlice:
		c := *o
		c.version, c.triggered = "", 0
		return c
	case *corev1.Node:
		c := *o
		c.ResourceVersion = ""
		return c
	case *networkingv1.ServiceCIDR:
		c := *o
		c.ResourceVersion = ""
		return c
	}
	return obj
}
