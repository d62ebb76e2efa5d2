package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"svcproxy/pkg/kernel/kerneltest"
)

// insideVariable marks the process that runs in a network namespace of its own.
const insideVariable = "SVCPROXY_TEST_INSIDE"

// inside runs the test in a process with a network namespace of its own: servers
// and goroutines must be there too. It returns false in the process that waits.
func inside(t *testing.T) bool {
	if os.Getenv(insideVariable) != "" {
		t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "xtables.lock"))
		kerneltest.Run(t, "", "ip", "link", "set", "lo", "up")
		return true
	}
	kerneltest.NeedRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in a network namespace of its own: %v\n%s", err, out)
	}
	return false
}

// What svcproxy tells over HTTP is what kube-proxy tells (hack/kubernetes/record
// has recorded it), word for word but for the values of metrics; all metrics are
// in docs/metrics.md, and all that are there are told.
func TestAnswers(t *testing.T) {
	if !inside(t) {
		return
	}
	recorded, err := txtar.ParseFile("testdata/answers/kube-proxy.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			api, kubeconfig := newAPIServer(t, section(recorded, "objects.yaml"))
			serveNode(t, "--kubeconfig="+kubeconfig, "--hostname-override=here", "--iptables-backend="+backend)
			makeEverythingHappen(t, api, backend)
			for _, f := range recorded.Files {
				switch {
				case strings.HasSuffix(f.Name, "/metrics"):
					checkMetrics(t, string(f.Data), answerOf(t, f.Name))
				case strings.HasPrefix(f.Name, "http://"):
					if diff := cmp.Diff(string(f.Data), lasting(answerOf(t, f.Name))); diff != "" {
						t.Errorf("%s (-kube-proxy +svcproxy):\n%s", f.Name, diff)
					}
				}
			}
			want := []string{"default Node here, Normal, Starting, StartKubeProxy, , by svcproxy"}
			if diff := cmp.Diff(want, api.told()); diff != "" {
				t.Errorf("Events (-want +got):\n%s", diff)
			}
		})
	}
}

// serveNode runs svcproxy until the test ends.
func serveNode(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	var stdout, stderr bytes.Buffer
	args = append(args, "--conntrack-max-per-core=0", "--conntrack-min=0", "--iptables-min-sync-period=0s", "--cluster-cidr=10.21.0.0/16")
	go func() { ended <- run(ctx, args, strings.NewReader(""), &stdout, &stderr) }()
	t.Cleanup(func() {
		cancel()
		if status := <-ended; status != 0 {
			t.Errorf("svcproxy ended with %d: %s", status, &stderr)
		}
	})
	eventually(t, "svcproxy is healthy", func() bool { return strings.HasPrefix(answerOf(t, "http://127.0.0.1:10256/healthz"), "200 ") })
}

// makeEverythingHappen has a sync that changes an endpoint, and a probe.
func makeEverythingHappen(t *testing.T, api *apiServer, backend string) {
	t.Helper()
	api.change("EndpointSlice", "dns-4", func(o *unstructured.Unstructured) {
		_ = unstructured.SetNestedSlice(o.Object, []any{map[string]any{"addresses": []any{"10.21.1.6"}, "nodeName": "elsewhere"}}, "endpoints")
	})
	eventually(t, "the change is synced and its flows are looked for", func() bool {
		return value(t, "kubeproxy_sync_proxy_rules_endpoint_changes_total") == 3 &&
			value(t, "kubeproxy_sync_partial_proxy_rules_duration_seconds_count", "IPv4") >= 1 &&
			value(t, "kubeproxy_conntrack_reconciler_sync_duration_seconds_count", "IPv4") >= 1
	})
	for name, want := range map[string]float64{
		"kubeproxy_network_programming_duration_seconds_count IPv4":         2,
		"kubeproxy_network_programming_duration_seconds_sum IPv4":           0, // the cause is yet to come
		"kubeproxy_sync_full_proxy_rules_duration_seconds_count IPv4":       1,
		"kubeproxy_sync_proxy_rules_no_local_endpoints_total IPv4 internal": 1,
		"kubeproxy_sync_proxy_rules_no_local_endpoints_total IPv6 external": 1,
		"kubeproxy_sync_proxy_rules_endpoint_changes_pending":               0,
		"kubeproxy_sync_proxy_rules_service_changes_total":                  1,
		"kubeproxy_sync_proxy_rules_iptables_restore_failures_total IPv4":   0,
		"kubeproxy_iptables_ct_state_invalid_dropped_packets_total":         0,
		"kubeproxy_sync_proxy_rules_iptables_total IPv6 filter":             rulesOf(t, "ip6tables-"+backend, "filter"),
		"kubeproxy_sync_proxy_rules_iptables_total IPv4 nat":                rulesOf(t, "iptables-"+backend, "nat"),
		"svcproxy_services":                  1,
		"svcproxy_endpoints IPv6":            1,
		"svcproxy_node_leaving":              0,
		"svcproxy_snapshot_problems":         0,
		"svcproxy_quarantined_services IPv4": 0,
	} {
		words := strings.Fields(name)
		if got := value(t, words[0], words[1:]...); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	answerOf(t, "http://127.0.0.1:10256/livez")
}

// rulesOf counts the rules in svcproxy's chains.
func rulesOf(t *testing.T, command, table string) float64 {
	t.Helper()
	return float64(strings.Count(kerneltest.Run(t, "", command+"-save", "-t", table), "\n-A KUBE-"))
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// answerOf returns status, type and body of an answer; empty if there is none.
func answerOf(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s\n%s\n", resp.StatusCode, resp.Header.Get("Content-Type"), body)
}

// value is that of a metric on the local server. labels are values of its labels.
func value(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	for line := range strings.Lines(answerOf(t, "http://127.0.0.1:10249/metrics")) {
		series, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		found := series == name || strings.HasPrefix(series, name+"{")
		for _, l := range labels {
			found = found && strings.Contains(series, `="`+l+`"`)
		}
		var v float64
		if _, err := fmt.Sscan(number, &v); found && err == nil {
			return v
		}
	}
	return -1
}

var (
	explained = regexp.MustCompile(`(?m)^# HELP .*\n`)
	sampled   = regexp.MustCompile(`(?m)^([a-z_]+(?:{.*})?) [^ ]+$`)
	instants  = regexp.MustCompile(`"20[0-9-]+T[0-9:.]+Z"`)
	apiHosts  = regexp.MustCompile(`host="[^"]*"`)
)

// lasting is what of an answer is the same in every run, as it was recorded.
func lasting(answer string) string {
	answer = sampled.ReplaceAllString(explained.ReplaceAllString(answer, ""), "$1 0")
	answer = apiHosts.ReplaceAllString(answer, `host="api"`)
	return strings.TrimRight(instants.ReplaceAllString(answer, `"TIME"`), "\n") + "\n"
}

// notTold are metrics of kube-proxy that docs/metrics.md says svcproxy has not.
func notTold() []string {
	return []string{"kubeproxy_iptables_localhost_nodeports_accepted_packets_total"}
}

func checkMetrics(t *testing.T, recorded, answer string) {
	t.Helper()
	theirs, ours := families(t, recorded), families(t, answer)
	for name, their := range theirs {
		our := ours[name]
		if our == nil {
			if !slices.Contains(notTold(), name) {
				t.Errorf("%s is not told", name)
			}
			continue
		}
		if their.GetType() != our.GetType() {
			t.Errorf("%s is a %s, kube-proxy's a %s", name, our.GetType(), their.GetType())
		}
		has := seriesOf(our)
		for _, series := range seriesOf(their) {
			if !slices.Contains(has, series) {
				t.Errorf("%s has no series like kube-proxy's %s, but\n%s", name, series, strings.Join(has, "\n"))
			}
		}
	}
	checkDocumented(t, ours)
}

func families(t *testing.T, answer string) map[string]*dto.MetricFamily {
	t.Helper()
	_, body, _ := strings.Cut(apiHosts.ReplaceAllString(answer, `host="api"`), "\n")
	p := expfmt.NewTextParser(model.UTF8Validation)
	out, err := p.TextToMetricFamilies(strings.NewReader(strings.TrimRight(body, "\n") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// seriesOf lists the labels, and the buckets, of each series.
func seriesOf(f *dto.MetricFamily) []string {
	var out []string
	for _, m := range f.GetMetric() {
		s := labelsOf(m)
		for _, b := range m.GetHistogram().GetBucket() {
			s += fmt.Sprint(" ", b.GetUpperBound())
		}
		out = append(out, s)
	}
	return out
}

func labelsOf(m *dto.Metric) string {
	var out []string
	for _, l := range m.GetLabel() {
		out = append(out, l.GetName()+"="+l.GetValue())
	}
	return strings.Join(out, ",")
}

// checkDocumented compares names, types and labels with the tables of the page.
func checkDocumented(t *testing.T, told map[string]*dto.MetricFamily) {
	t.Helper()
	rows := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram) \\|([^|]*)\\|").FindAllStringSubmatch(readDoc(t, "metrics.md"), -1)
	documented := map[string]bool{}
	for _, row := range rows {
		name := row[1]
		documented[name] = true
		f := told[name]
		if f == nil {
			t.Errorf("docs/metrics.md names %s, which is not told", name)
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		want := strings.Fields(strings.ReplaceAll(row[3], ",", " "))
		slices.Sort(want)
		if strings.ToUpper(row[2]) != f.GetType().String() || !slices.Equal(labels, want) {
			t.Errorf("docs/metrics.md says that %s is a %s with %v, it is a %s with %v", name, row[2], want, f.GetType(), labels)
		}
	}
	for name := range told {
		if !documented[name] && !strings.HasPrefix(name, "go_") {
			t.Errorf("docs/metrics.md does not name %s", name)
		}
	}
}
