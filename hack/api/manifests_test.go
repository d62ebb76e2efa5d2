package api

import (
	"context"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// manifestsAreAccepted asks the API server what it says to svcproxy's manifests.
func manifestsAreAccepted(t *testing.T, c *controlPlane) {
	o := &objects{t, c.admin()}
	var daemonSet appsv1.DaemonSet
	var configMap corev1.ConfigMap
	o.check(yaml.UnmarshalStrict([]byte(o.manifest("daemonset.yaml")[0]), &daemonSet))
	o.check(yaml.UnmarshalStrict([]byte(o.manifest("configmap.yaml")[0]), &configMap))
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict}
	_, err := o.client.AppsV1().DaemonSets(daemonSet.Namespace).Create(context.Background(), &daemonSet, dryRun)
	o.check(err)
	_, err = o.client.CoreV1().ConfigMaps(configMap.Namespace).Create(context.Background(), &configMap, dryRun)
	o.check(err)
}
