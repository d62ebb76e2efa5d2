package watch

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// strip keeps of an object what conversion reads, and what identifies it. The
// rest would be held in memory for every object of the cluster, and its changes
// would wake us up for nothing.
func strip(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		spec := o.Spec
		spec.Selector = nil
		return &corev1.Service{
			ObjectMeta: stripMeta(&o.ObjectMeta, labelProxyName),
			Spec:       spec,
			Status:     corev1.ServiceStatus{LoadBalancer: o.Status.LoadBalancer},
		}, nil
	case *discoveryv1.EndpointSlice:
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  stripMeta(&o.ObjectMeta, discoveryv1.LabelServiceName),
			AddressType: o.AddressType,
			Ports:       o.Ports,
		}
		for _, ep := range o.Endpoints {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				Addresses: ep.Addresses, Conditions: ep.Conditions, NodeName: ep.NodeName, Hints: ep.Hints,
			})
		}
		return s, nil
	case *corev1.Node:
		return &corev1.Node{
			ObjectMeta: stripMeta(&o.ObjectMeta, corev1.LabelTopologyZone),
			Spec:       corev1.NodeSpec{PodCIDR: o.Spec.PodCIDR, PodCIDRs: o.Spec.PodCIDRs},
			Status:     corev1.NodeStatus{Addresses: o.Status.Addresses},
		}, nil
	case *networkingv1.ServiceCIDR:
		return &networkingv1.ServiceCIDR{ObjectMeta: stripMeta(&o.ObjectMeta, ""), Spec: o.Spec}, nil
	}
	return obj, nil
}

func stripMeta(m *metav1.ObjectMeta, label string) metav1.ObjectMeta {
	out := metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp}
	if v, ok := m.Labels[label]; ok {
		out.Labels = map[string]string{label: v}
	}
	return out
}
