// Package manifests checks that the manifests are what the API would accept and
// ask for no more than svcproxy needs.
package manifests

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
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

func TestServiceProxyHasTwoCapabilitiesAndNoMore(t *testing.T) {
	pod := read[appsv1.DaemonSet](t, "svcproxy/daemonset.yaml").Spec.Template.Spec
	if sc := pod.SecurityContext; sc.SeccompProfile == nil || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("seccomp profile of the pod: %+v", sc)
	}
	for name, want := range map[string]struct {
		capabilities []corev1.Capability
		writable     []string // what it can write to of the node
	}{
		"sysctls":  {nil, []string{"/proc/sys/net"}},
		"svcproxy": {[]corev1.Capability{"NET_ADMIN", "NET_RAW"}, []string{"/run/xtables.lock"}},
	} {
		c := container(t, &pod, name)
		sc := c.SecurityContext
		if sc.Privileged != nil || sc.SeccompProfile != nil || !*sc.ReadOnlyRootFilesystem || *sc.AllowPrivilegeEscalation {
			t.Errorf("%s: security context: %+v", name, sc)
		}
		if !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || !slices.Equal(sc.Capabilities.Add, want.capabilities) {
			t.Errorf("%s: capabilities: %+v", name, sc.Capabilities)
		}
		if got := writable(&pod, c); !slices.Equal(got, want.writable) {
			t.Errorf("%s can write to %v of the node, want %v", name, got, want.writable)
		}
	}
	if len(pod.InitContainers)+len(pod.Containers) != 2 || pod.HostPID || pod.HostIPC {
		t.Errorf("more containers, or more of the node: %+v", pod)
	}
	if !pod.HostNetwork || pod.PriorityClassName != "system-node-critical" || pod.Tolerations[0].Operator != corev1.TolerationOpExists {
		t.Errorf("the pod does not run everywhere: %+v", pod)
	}
}

func container(t *testing.T, pod *corev1.PodSpec, name string) *corev1.Container {
	t.Helper()
	all := slices.Concat(pod.InitContainers, pod.Containers)
	i := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("there is no container %s", name)
	}
	return &all[i]
}

// writable lists the paths of the node that a container has mounted to write to.
func writable(pod *corev1.PodSpec, c *corev1.Container) []string {
	var out []string
	for _, m := range c.VolumeMounts {
		for _, v := range pod.Volumes {
			if v.Name == m.Name && v.HostPath != nil && !m.ReadOnly {
				out = append(out, v.HostPath.Path)
			}
		}
	}
	return out
}

func TestRoleReadsFourKindsAndWritesEvents(t *testing.T) {
	verbs := map[string][]string{}
	for _, r := range read[rbacv1.ClusterRole](t, "svcproxy/rbac.yaml").Rules {
		for _, resource := range r.Resources {
			verbs[resource] = r.Verbs
		}
	}
	reads := []string{"list", "watch"}
	want := map[string][]string{
		"services": reads, "nodes": reads, "endpointslices": reads, "servicecidrs": reads, "events": {"create", "patch"},
	}
	if diff := cmp.Diff(want, verbs); diff != "" {
		t.Errorf("the role (-want +got):\n%s", diff)
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
