package api

import (
	"context"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"svcproxy/hack/internal/controlplane"
	"svcproxy/hack/internal/process"
)

// svcproxyUser is the one that the manifests make.
func svcproxyUser() controlplane.User {
	return controlplane.User{
		Token: "svcproxy", Name: "system:serviceaccount:kube-system:svcproxy",
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
	}
}

// controlPlane is etcd, an API server and a controller manager, all real; what
// goes wrong with them fails the test.
type controlPlane struct {
	*controlplane.ControlPlane
	t *testing.T
}

// newControlPlane starts one that ends with the test.
func newControlPlane(t *testing.T, bin string) *controlPlane {
	t.Helper()
	admin := controlplane.Admin()
	made, err := controlplane.New(controlplane.Config{
		Bin: bin, Dir: t.TempDir(), Address: netip.MustParseAddr("127.0.0.1"), ServiceCIDRs: "10.96.0.0/16,fd00:10:96::/108",
		Authorization: "RBAC", Users: []controlplane.User{admin, svcproxyUser()},
	})
	c := &controlPlane{made, t}
	c.must(err)
	t.Cleanup(func() {
		for _, p := range []*process.Process{c.API, c.Etcd} {
			if p != nil {
				end(t, p)
			}
		}
	})
	c.must(c.Start(context.Background()))
	manager, err := c.Run("kube-controller-manager", "--kubeconfig", c.Kubeconfig(admin), "--leader-elect=false",
		"--controllers=endpointslice-controller", "--kube-api-qps=1000", "--kube-api-burst=1000", "--secure-port=0")
	c.must(err)
	t.Cleanup(func() { end(t, manager) })
	return c
}

func (c *controlPlane) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// restart kills the API server and starts it again.
func (c *controlPlane) restart() {
	c.t.Helper()
	c.API.Stop(syscall.SIGKILL)
	c.must(c.StartAPIServer(context.Background()))
}

// admin talks to the API server as somebody who may do everything.
func (c *controlPlane) admin() *kubernetes.Clientset {
	c.t.Helper()
	client, err := c.Client(controlplane.Admin().Token)
	c.must(err)
	return client
}

// end ends a process with the test, and shows what it said if that failed.
func end(t *testing.T, p *process.Process) {
	p.Stop(syscall.SIGKILL)
	if t.Failed() {
		t.Logf("the end of what %s said:\n%s", p.Name(), p.Tail(20))
	}
}

// exit waits for a process to end by itself and returns its exit status; -1 if it
// had to be killed.
func exit(p *process.Process, patience time.Duration) int {
	select {
	case <-p.Ended():
	case <-time.After(patience):
		p.Stop(syscall.SIGKILL)
	}
	return p.ExitCode()
}

// eventually waits until a condition holds.
func eventually(t *testing.T, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after %v: %s", patience, what)
		}
	}
}
