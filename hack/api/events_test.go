package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"svcproxy/pkg/rules"
)

// takenPort is a health check node port that somebody else listens on.
const takenPort = 31999

// warnTwice makes svcproxy write the same Event twice. The second one makes a
// series of the first, which is a patch.
func warnTwice(t *testing.T, o *objects, d *daemon) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", takenPort))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for n := 1; n <= 2; n++ {
		o.service("checked", func(spec *corev1.ServiceSpec) {
			spec.Type, spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
			spec.HealthCheckNodePort = takenPort
		})
		eventually(t, 30*time.Second, "the health check port cannot be opened", func() bool {
			return strings.Count(d.Said(), "Not all health checks are answered") >= n
		})
		o.removeService("checked")
		d.hasNot(t, rules.IPv4, "default/checked")
	}
}

func eventsAreWritten(s *scene) {
	warnTwice(s.t, s.objects, s.daemon)
	find := func(namespace, name, reason string) *eventsv1.Event {
		list, err := s.objects.client.EventsV1().Events(namespace).List(context.Background(), metav1.ListOptions{})
		s.check(err)
		for i := range list.Items {
			if e := &list.Items[i]; e.Regarding.Name == name && e.Reason == reason && e.ReportingController == "svcproxy" {
				return e
			}
		}
		return nil
	}
	eventually(s.t, 30*time.Second, "the start is an Event of the Node", func() bool {
		e := find("default", nodeName, "Starting")
		return e != nil && e.Type == corev1.EventTypeNormal && e.Regarding.Kind == "Node"
	})
	eventually(s.t, 30*time.Second, "what happened twice is a series", func() bool {
		e := find(namespace, "checked", "FailedToStartServiceHealthcheck")
		return e != nil && e.Series != nil && e.Series.Count == 2
	})
	if strings.Contains(s.daemon.Said(), "Server rejected event") {
		s.t.Errorf("Events were refused:\n%s", s.daemon.Tail(20))
	}
}

// latencyIsMeasured: the controller manager says when it saw a pod change.
func latencyIsMeasured(s *scene) {
	svc := s.service("timed", func(spec *corev1.ServiceSpec) { spec.Selector = map[string]string{"app": "timed"} })
	s.daemon.has(s.t, rules.IPv4, svc.Spec.ClusterIP+"/32")
	time.Sleep(time.Second) // it says so in whole seconds, and what was before svcproxy's start does not count
	s.pod("timed-1", "timed", "10.21.1.77")
	s.daemon.has(s.t, rules.IPv4, "10.21.1.77:80")
	metrics := func() string {
		resp, err := http.Get("http://127.0.0.1:10249/metrics")
		s.check(err)
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		s.check(err)
		return string(text)
	}
	eventually(s.t, 30*time.Second, "the latency is told", func() bool {
		text := metrics()
		return !strings.Contains(text, `kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 0`) &&
			strings.Contains(text, `kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0"} 0`)
	})
	for _, request := range []string{`code="200",host="127.0.0.1:6443",method="GET"`, `code="201",host="127.0.0.1:6443",method="POST"`} {
		if !strings.Contains(metrics(), "rest_client_requests_total{"+request+"}") {
			s.t.Errorf("no request %s is told", request)
		}
	}
}
