// Package manifests checks that the manifests are what the API would accept and
// ask for no more than svcproxy needs.
package manifests

import (
	"bytes"
	"os"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

func read[T any](t *testing.T, path string) *T {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := new(T)
	first, _, _ := bytes.Cut(text, []byte("\n---\n"))
	if err := yaml.UnmarshalStrict(first, out); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return out
}

func TestDaemonSetHasTwoCapabilitiesAndNoMore(t *testing.T) {
	pod := read[appsv1.DaemonSet](t, "svcproxy/daemonset.yaml").Spec.Template.Spec
	sc := pod.Containers[0].SecurityContext
	if sc.Privileged != nil || !*sc.ReadOnlyRootFilesystem || *sc.AllowPrivilegeEscalation {
		t.Errorf("security context: %+v", sc)
	}
	if !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) ||
		!slices.Equal(sc.Capabilities.Add, []corev1.Capability{"NET_ADMIN", "NET_RAW"}) {
		t.Errorf("capabilities: %+v", sc.Capabilities)
	}
	if !pod.HostNetwork || pod.PriorityClassName != "system-node-critical" || pod.Tolerations[0].Operator != corev1.TolerationOpExists {
		t.Errorf("the pod does not run everywhere: %+v", pod)
	}
}

func TestRoleReadsThreeKindsAndWritesNothing(t *testing.T) {
	var resources []string
	for _, r := range read[rbacv1.ClusterRole](t, "svcproxy/rbac.yaml").Rules {
		if !slices.Equal(r.Verbs, []string{"list", "watch"}) {
			t.Errorf("verbs of %v: %v", r.Resources, r.Verbs)
		}
		resources = append(resources, r.Resources...)
	}
	if !slices.Equal(resources, []string{"services", "nodes", "endpointslices", "servicecidrs"}) {
		t.Errorf("resources: %v", resources)
	}
}

func TestDemoServiceSelectsItsPods(t *testing.T) {
	deployment := read[appsv1.Deployment](t, "nginx-demo/deployment.yaml")
	service := read[corev1.Service](t, "nginx-demo/service.yaml")
	stored := read[corev1.Service](t, "nginx-demo/as-stored/service.yaml")
	for k, v := range service.Spec.Selector {
		if deployment.Spec.Template.Labels[k] != v {
			t.Errorf("selector %s=%s matches no pod", k, v)
		}
	}
	if stored.Name != service.Name || stored.Namespace != service.Namespace || stored.Spec.Ports[0].Port != service.Spec.Ports[0].Port {
		t.Errorf("as stored: %+v, applied: %+v", stored, service)
	}
	if read[corev1.Namespace](t, "nginx-demo/namespace.yaml").Name != service.Namespace {
		t.Error("the Service is in another namespace than the one made for it")
	}
}
