package watch

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// kube-proxy ends when these change; they are followed here.
func TestClusterFollowsItsNode(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := fake.NewClientset()
	c := NewCluster(client, "here")
	go func() { _ = c.Run(ctx) }()
	is := func(what, addresses, primary, zone, pods string, leaving bool) {
		t.Helper()
		wait(t, c.Changed(), what, func() bool {
			snap, _ := c.Snapshot()
			n := snap.Node
			return fmt.Sprint(n.Addresses, n.Primary, n.PodCIDRs) == addresses+" "+primary+" "+pods && n.Zone == zone && n.Leaving == leaving
		})
	}
	is("no Node yet", "[]", "[]", "", "[]", true)

	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here", Labels: map[string]string{corev1.LabelTopologyZone: "a"}}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.250.0.2"}}
	nodes := client.CoreV1().Nodes()
	if _, err := nodes.Create(ctx, node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	is("there is one", "[10.250.0.2]", "[10.250.0.2]", "a", "[]", false)

	change := func(f func()) {
		t.Helper()
		f()
		if _, err := nodes.Update(ctx, node.DeepCopy(), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	change(func() { node.Spec.PodCIDR, node.Spec.PodCIDRs = "10.21.1.0/24", []string{"10.21.1.0/24"} })
	is("it gets a pod range", "[10.250.0.2]", "[10.250.0.2]", "a", "[10.21.1.0/24]", false)
	change(func() { node.Labels[corev1.LabelTopologyZone] = "b" })
	is("it gets another zone", "[10.250.0.2]", "[10.250.0.2]", "b", "[10.21.1.0/24]", false)
	change(func() {
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.250.0.9"}, {Type: corev1.NodeExternalIP, Address: "203.0.113.1"}}
	})
	is("it gets other addresses", "[10.250.0.9 203.0.113.1]", "[10.250.0.9]", "b", "[10.21.1.0/24]", false)
	change(func() { node.Spec.Taints = []corev1.Taint{{Key: toBeDeleted, Effect: corev1.TaintEffectNoSchedule}} })
	is("the autoscaler will remove it", "[10.250.0.9 203.0.113.1]", "[10.250.0.9]", "b", "[10.21.1.0/24]", true)
	change(func() {
		node.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}
	})
	is("or not", "[10.250.0.9 203.0.113.1]", "[10.250.0.9]", "b", "[10.21.1.0/24]", false)
	change(func() { now := metav1.Now(); node.DeletionTimestamp, node.Finalizers = &now, []string{"x/y"} })
	is("it is being deleted", "[10.250.0.9 203.0.113.1]", "[10.250.0.9]", "b", "[10.21.1.0/24]", true)
	if err := nodes.Delete(ctx, "here", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// The machine is where it was, and its rules are to stay.
	is("it is gone", "[10.250.0.9 203.0.113.1]", "[10.250.0.9]", "b", "[10.21.1.0/24]", true)
	node.DeletionTimestamp, node.Finalizers, node.Labels = nil, nil, nil
	if _, err := nodes.Create(ctx, node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	is("it is registered again", "[10.250.0.9 203.0.113.1]", "[10.250.0.9]", "", "[10.21.1.0/24]", false)
}

func TestFilesNeedNoNode(t *testing.T) {
	x := newIndex("here")
	if snap, _ := x.snapshot(); snap.Node.Leaving {
		t.Error("a node that no file names is leaving")
	}
}
