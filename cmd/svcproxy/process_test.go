package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	logsapi "k8s.io/component-base/logs/api/v1"

	"svcproxy/pkg/kernel/kerneltest"
)

// runVariable makes the test binary be svcproxy itself.
const runVariable = "SVCPROXY_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runVariable) != "" {
		main()
	}
	// Logging is set up once, and tests run the command often.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
	os.Exit(m.Run())
}

// process is svcproxy in a process of its own, in the network namespace of the test.
type process struct {
	*exec.Cmd
	log    syncBuffer
	exited chan error
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command("/proc/self/exe", args...), exited: make(chan error, 1)}
	p.Env = append(os.Environ(), runVariable+"=1")
	p.Stdout, p.Stderr = &p.log, &p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		p.exited <- p.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-done
	})
	return p
}

// get asks a server on localhost. The connection is made by the test's own
// thread: another one is not in its namespace.
func get(port int, path string) (code int, body string) {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = conn.Close() }()
	fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err.Error()
	}
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

func (p *process) waitHealthy(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		code, body := get(healthzPort, "/healthz")
		if code == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not healthy: %d %s\n%s", code, body, &p.log)
		}
	}
}

// svcproxy takes kube-proxy's place by the ConfigMap that kubeadm made for that,
// and ends well when it changes: its rules stay, and its pod is started anew.
func TestKubeadmsConfigMapIsServed(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			kerneltest.Enter(t)
			text := kubeadmConfigMap(t).Data["config.conf"]
			v := newVolume(t, text)
			p := startProcess(t, "--config", v.path(), "--hostname-override=centos100", "--iptables-backend", backend, "-f", "../../manifests/nginx-demo/as-stored")
			p.waitHealthy(t)
			if _, body := get(metricsPort, "/configz"); !strings.Contains(body, `"clusterCIDR":"10.21.0.0/16"`) {
				t.Errorf("/configz: %s", body)
			}
			v.set(strings.Replace(text, "10.21.0.0/16", "10.21.0.0", 1))
			p.log.says(t, nil, `clusterCIDR: Invalid value: \"10.21.0.0\"`)
			if code, _ := get(metricsPort, "/proxyMode"); code != http.StatusOK {
				t.Errorf("it does not go on serving: %d", code)
			}
			v.set(strings.Replace(text, "10.21.0.0/16", "10.21.0.0/17", 1))
			select {
			case err := <-p.exited:
				if err != nil || !strings.Contains(p.log.String(), `fields=["clusterCIDR"]`) {
					t.Errorf("it ended with %v:\n%s", err, &p.log)
				}
			case <-time.After(60 * time.Second):
				t.Fatalf("it goes on:\n%s", &p.log)
			}
			if rules := kerneltest.Run(t, "", "iptables-"+backend+"-save", "-t", "nat"); !strings.Contains(rules, "! -s 10.21.0.0/16 -d 10.101.231.134/32") {
				t.Errorf("the rules are gone:\n%s", rules)
			}
			next := startProcess(t, "--config", v.path(), "--hostname-override=centos100", "--iptables-backend", backend, "-f", "../../manifests/nginx-demo/as-stored")
			next.waitHealthy(t)
			if rules := kerneltest.Run(t, "", "iptables-"+backend+"-save", "-t", "nat"); !strings.Contains(rules, "! -s 10.21.0.0/17 -d 10.101.231.134/32") {
				t.Errorf("the next one serves by the old configuration:\n%s", rules)
			}
		})
	}
}

// What conntrack is told to take for valid is not dropped as INVALID, from the first
// start on.
func TestLiberalConntrackIsHeededAtTheFirstStart(t *testing.T) {
	kerneltest.Enter(t)
	p := startProcess(t, "--conntrack-tcp-be-liberal", "--conntrack-max-per-core=0", "-f", "../../manifests/nginx-demo/as-stored")
	p.waitHealthy(t)
	if set := kerneltest.Run(t, "", "sysctl", "-n", "net.netfilter.nf_conntrack_tcp_be_liberal"); strings.TrimSpace(set) != "1" {
		t.Fatalf("nf_conntrack_tcp_be_liberal is %s\n%s", set, &p.log)
	}
	for _, save := range []string{"iptables-nft-save", "iptables-legacy-save"} {
		if rules := kerneltest.Run(t, "", save, "-t", "filter"); strings.Contains(rules, "INVALID") {
			t.Errorf("INVALID packets are dropped all the same:\n%s", rules)
		}
	}
}

// With --logging-format=json each line is an object.
func TestLoggingFormat(t *testing.T) {
	kerneltest.Enter(t)
	p := startProcess(t, "--logging-format=json", "-f", "../../manifests/nginx-demo/as-stored", "--oom-score-adj=-1000", "--config-sync-period=1m")
	p.waitHealthy(t)
	for line := range strings.Lines(p.log.String()) {
		if !strings.HasPrefix(line, `{"ts":`) {
			t.Errorf("is no object: %s", line)
		}
	}
	if !strings.Contains(p.log.String(), `"settings":["--config-sync-period"]`) {
		t.Errorf("a line is missing:\n%s", &p.log)
	}
}
