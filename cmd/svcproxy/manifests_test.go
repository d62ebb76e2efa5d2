package main

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func readManifest[T any](t *testing.T, name string) *T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../manifests/svcproxy", name))
	if err != nil {
		t.Fatal(err)
	}
	out := new(T)
	if err := yaml.UnmarshalStrict(text, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// mounted writes what the kubelet puts into the pod's volume of configuration: of
// a file that two ConfigMaps have, that of the later source. It returns the folder.
func mounted(t *testing.T, pod *corev1.PodSpec, there map[string]*corev1.ConfigMap) string {
	t.Helper()
	dir := t.TempDir()
	for _, v := range pod.Volumes {
		if v.Name != "config" {
			continue
		}
		for _, src := range v.Projected.Sources {
			cm := there[src.ConfigMap.Name]
			if cm == nil && !*src.ConfigMap.Optional {
				t.Errorf("without ConfigMap %s the pod does not start", src.ConfigMap.Name)
			}
			if cm == nil {
				continue
			}
			for name, text := range cm.Data {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return dir
}

// The DaemonSet takes kube-proxy's ConfigMap as kubeadm made it, and svcproxy's
// own before it, file by file.
func TestDaemonSetReadsConfigMaps(t *testing.T) {
	pod := readManifest[appsv1.DaemonSet](t, "daemonset.yaml").Spec.Template.Spec
	kubeadm, own := kubeadmConfigMap(t), readManifest[corev1.ConfigMap](t, "configmap.yaml")
	bit := &corev1.ConfigMap{Data: map[string]string{"config.conf": configText("clusterCIDR: 10.1.0.0/16\nclientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf}\n")}}
	kubeadm.Data["config.conf"] = strings.Replace(kubeadm.Data["config.conf"], "10.21.0.0/16", "10.2.0.0/16", 1)
	for name, c := range map[string]struct {
		there map[string]*corev1.ConfigMap
		cidr  string
	}{
		"kubeadm's alone":          {map[string]*corev1.ConfigMap{"kube-proxy": kubeadm}, "10.2.0.0/16"},
		"our own alone":            {map[string]*corev1.ConfigMap{"svcproxy": own}, "10.21.0.0/16"},
		"both":                     {map[string]*corev1.ConfigMap{"kube-proxy": kubeadm, "svcproxy": own}, "10.21.0.0/16"},
		"one file of ours besides": {map[string]*corev1.ConfigMap{"kube-proxy": kubeadm, "svcproxy": bit}, "10.1.0.0/16"},
	} {
		dir := mounted(t, &pod, c.there)
		for _, container := range append(pod.InitContainers, pod.Containers...) {
			mount := container.VolumeMounts[0]
			if mount.Name != "config" {
				t.Fatalf("%s does not see the configuration", container.Name)
			}
			var args []string
			for _, arg := range container.Args {
				args = append(args, strings.ReplaceAll(strings.ReplaceAll(arg, mount.MountPath, dir), "$(NODE_NAME)", "here"))
			}
			s := configured(t, args...).settings
			if s.ClusterCIDR != c.cidr {
				t.Errorf("%s, %s: pods are in %s", name, container.Name, s.ClusterCIDR)
			}
			kubeconfig, inside := strings.CutPrefix(s.ClientConnection.Kubeconfig, mount.MountPath+"/")
			if _, err := os.Stat(path.Join(dir, kubeconfig)); !inside || err != nil {
				t.Errorf("%s, %s: kubeconfig %s: %v", name, container.Name, s.ClientConnection.Kubeconfig, err)
			}
		}
	}
	if _, err := parsed(t, "--config", mounted(t, &pod, nil)+"/config.conf"); err == nil || !strings.Contains(err.Error(), "--config: open ") {
		t.Errorf("without a ConfigMap: %v", err)
	}
}
