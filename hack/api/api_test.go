package api

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"svcproxy/pkg/rules"
)

func TestAgainstARealAPIServer(t *testing.T) {
	bin := os.Getenv(binVariable)
	if bin == "" {
		t.Skip("needs Kubernetes' binaries: run make test-api")
	}
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "xtables.lock"))
	svcproxy := filepath.Join(t.TempDir(), "svcproxy")
	if out, err := exec.Command("go", "build", "-o", svcproxy, "../../cmd/svcproxy").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	c := newControlPlane(t, bin)
	admin := &objects{t, c.admin()}
	admin.grant(func(*rbacv1.ClusterRole) {})
	admin.node()
	for _, test := range []struct {
		name string
		run  func(*scene)
	}{
		{"slices before and after their Service", slicesBeforeAndAfter},
		{"a Service recreated with another IP", recreated},
		{"all five types", allTypes},
		{"both families", bothFamilies},
		{"slices of the controller manager", controllersSlices},
		{"Events", eventsAreWritten},
		{"latency", latencyIsMeasured},
		{"API server restarted", apiServerRestarted},
		{"events missed", eventsMissed},
		{"5,000 Services", manyServices},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &objects{t, c.admin()}
			test.run(&scene{t: t, controlPlane: c, objects: o, daemon: newDaemon(t, c, svcproxy)})
		})
	}
	t.Run("manifests", func(t *testing.T) { manifestsAreAccepted(t, c) })
	t.Run("RBAC", func(t *testing.T) { roleIsMinimal(t, c, svcproxy) })
}

// scene is what a test works with: svcproxy runs already.
type scene struct {
	t *testing.T
	*controlPlane
	*objects
	*daemon
}

// clusterIP leaves a Service what it is by default.
func clusterIP(*corev1.ServiceSpec) {}

// patienceForRefusal is how long a new svcproxy may take to meet a refusal.
const patienceForRefusal = 30 * time.Second

func slicesBeforeAndAfter(s *scene) {
	s.slice("early", "early-1", "10.21.1.1")
	s.service("early", clusterIP)
	s.daemon.has(s.t, rules.IPv4, "10.21.1.1:8080")
	s.slice("early", "early-2", "10.21.1.2")
	s.daemon.has(s.t, rules.IPv4, "10.21.1.2:8080")
	s.removeSlice("early-1")
	s.daemon.hasNot(s.t, rules.IPv4, "10.21.1.1:8080")
	s.removeService("early")
	s.daemon.hasNot(s.t, rules.IPv4, "default/early")
	s.removeSlice("early-2")
	s.settled(s.t, "all gone")
}

func recreated(s *scene) {
	old := s.service("again", clusterIP)
	s.slice("again", "again-1", "10.21.1.3")
	s.daemon.has(s.t, rules.IPv4, old.Spec.ClusterIP+"/32")
	s.removeService("again")
	now := s.service("again", func(spec *corev1.ServiceSpec) { spec.ClusterIP = "10.96.77.77" })
	s.daemon.has(s.t, rules.IPv4, now.Spec.ClusterIP+"/32")
	s.daemon.hasNot(s.t, rules.IPv4, old.Spec.ClusterIP+"/32")
	s.daemon.has(s.t, rules.IPv4, "10.21.1.3:8080")
}

func allTypes(s *scene) {
	svc := s.service("types", clusterIP)
	s.slice("types", "types-1", "10.21.1.4")
	s.daemon.has(s.t, rules.IPv4, svc.Spec.ClusterIP+"/32")
	svc = s.update("types", func(spec *corev1.ServiceSpec) { spec.Type = corev1.ServiceTypeNodePort })
	s.daemon.has(s.t, rules.IPv4, fmt.Sprintf("--dport %d ", svc.Spec.Ports[0].NodePort))
	s.update("types", func(spec *corev1.ServiceSpec) {
		spec.Type, spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
	})
	s.daemon.has(s.t, rules.IPv4, "health check node port")
	s.update("types", func(spec *corev1.ServiceSpec) {
		*spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org", Ports: spec.Ports}
		spec.Ports[0].NodePort = 0
	})
	s.daemon.hasNot(s.t, rules.IPv4, "default/types")
	s.update("types", func(spec *corev1.ServiceSpec) {
		*spec = corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone, Ports: spec.Ports}
	})
	s.settled(s.t, "headless")
	s.removeService("types")
	svc = s.service("types", clusterIP)
	s.daemon.has(s.t, rules.IPv4, svc.Spec.ClusterIP+"/32")
}

func bothFamilies(s *scene) {
	svc := s.service("dual", func(spec *corev1.ServiceSpec) {
		policy := corev1.IPFamilyPolicyRequireDualStack
		spec.IPFamilyPolicy = &policy
	})
	s.slice("dual", "dual-4", "10.21.1.5")
	s.slice("dual", "dual-6", "fd00:10:21::5")
	s.daemon.has(s.t, rules.IPv4, svc.Spec.ClusterIPs[0]+"/32")
	s.daemon.has(s.t, rules.IPv6, svc.Spec.ClusterIPs[1]+"/128")
	s.daemon.has(s.t, rules.IPv6, "[fd00:10:21::5]:8080")
	s.update("dual", func(spec *corev1.ServiceSpec) {
		policy := corev1.IPFamilyPolicySingleStack
		spec.IPFamilyPolicy, spec.IPFamilies, spec.ClusterIPs = &policy, spec.IPFamilies[:1], spec.ClusterIPs[:1]
	})
	s.daemon.hasNot(s.t, rules.IPv6, "default/dual")
}

func controllersSlices(s *scene) {
	s.service("real", func(spec *corev1.ServiceSpec) { spec.Selector = map[string]string{"app": "real"} })
	s.pod("real-1", "real", "10.21.1.6")
	s.daemon.has(s.t, rules.IPv4, "10.21.1.6:80")
	s.pod("real-2", "real", "10.21.1.7")
	s.daemon.has(s.t, rules.IPv4, "10.21.1.7:80")
}

func apiServerRestarted(s *scene) {
	s.service("restart", clusterIP)
	s.daemon.has(s.t, rules.IPv4, "default/restart")
	before := saved(s.t, rules.IPv4)
	s.API.Stop(syscall.SIGKILL)
	if saved(s.t, rules.IPv4) != before {
		s.t.Error("without an API server the rules changed")
	}
	s.check(s.StartAPIServer(context.Background()))
	s.slice("restart", "restart-1", "10.21.1.8")
	s.daemon.has(s.t, rules.IPv4, "10.21.1.8:8080")
}

// eventsMissed: while svcproxy hears nothing, things come, change and go, and the
// history that it would ask for is forgotten (410 Gone).
func eventsMissed(s *scene) {
	s.service("stays", clusterIP)
	s.service("goes", clusterIP)
	s.slice("stays", "stays-1", "10.21.1.9")
	s.daemon.has(s.t, rules.IPv4, "10.21.1.9:8080")
	s.daemon.has(s.t, rules.IPv4, "default/goes")
	s.daemon.Pause()
	s.restart()
	s.removeService("goes")
	s.removeSlice("stays-1")
	s.slice("stays", "stays-2", "10.21.1.10")
	s.service("comes", clusterIP)
	s.check(s.Compact(context.Background()))
	s.restart()
	s.daemon.Resume()
	s.daemon.has(s.t, rules.IPv4, "default/comes")
	s.daemon.has(s.t, rules.IPv4, "10.21.1.10:8080")
	s.daemon.hasNot(s.t, rules.IPv4, "default/goes")
	if said := s.daemon.Said(); !strings.Contains(said, "too old resource version") && !strings.Contains(said, "Expired") {
		s.t.Errorf("the API server never said 410 Gone; svcproxy's log ends:\n%s", s.daemon.Tail(20))
	}
}

func manyServices(s *scene) {
	const number, writers = 5000, 8
	s.daemon.Stop(syscall.SIGTERM)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < number; i += writers {
				name := fmt.Sprintf("many-%d", i)
				s.service(name, clusterIP)
				if i%10 == 0 {
					s.slice(name, name+"-1", fmt.Sprintf("10.21.%d.%d", 10+i/250, 1+i%250))
				}
			}
		})
	}
	wg.Wait()
	d := newDaemon(s.t, s.controlPlane, s.daemon.bin)
	d.has(s.t, rules.IPv4, fmt.Sprintf("default/many-%d", number-1))
	s.removeService("many-77")
	d.hasNot(s.t, rules.IPv4, "default/many-77:")
}

// roleIsMinimal takes one verb after the other from the role of the manifests;
// without it svcproxy cannot follow the cluster, or not write Events.
func roleIsMinimal(t *testing.T, c *controlPlane, svcproxy string) {
	// Lists that are streamed by a watch need no verb list, but API servers before
	// 1.32 have no such thing.
	t.Setenv("KUBE_FEATURE_WatchListClient", "false")
	o := &objects{t, c.admin()}
	var full rbacv1.ClusterRole
	o.grant(func(r *rbacv1.ClusterRole) { full = *r.DeepCopy() })
	for i, rule := range full.Rules {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				t.Run(verb+" "+resource, func(t *testing.T) {
					o := &objects{t, o.client}
					o.grant(func(r *rbacv1.ClusterRole) { without(r, i, resource, verb) })
					d := newDaemon(t, c, svcproxy)
					if verb == "patch" {
						warnTwice(t, o, d)
					}
					eventually(t, patienceForRefusal, "svcproxy says that it may not "+verb+" "+resource, func() bool {
						said := strings.ReplaceAll(d.Said(), `\"`, `"`)
						return strings.Contains(said, "cannot "+verb+" resource \""+resource+"\"")
					})
				})
			}
		}
	}
	o.grant(func(*rbacv1.ClusterRole) {})
	d := newDaemon(t, c, svcproxy)
	d.settled(t, "the whole role")
	if strings.Contains(d.Said(), "forbidden") {
		t.Errorf("the whole role is not enough:\n%s", d.Tail(20))
	}
}

// without takes one verb on one resource from the i-th rule of a role.
func without(r *rbacv1.ClusterRole, i int, resource, verb string) {
	drop := func(in []string, s string) []string {
		return slices.DeleteFunc(slices.Clone(in), func(o string) bool { return o == s })
	}
	full := r.Rules[i]
	rest := full
	rest.Resources = drop(full.Resources, resource)
	lacking := full
	lacking.Resources, lacking.Verbs = []string{resource}, drop(full.Verbs, verb)
	r.Rules = append(slices.Delete(slices.Clone(r.Rules), i, i+1), lacking)
	if len(rest.Resources) > 0 {
		r.Rules = append(r.Rules, rest)
	}
}
