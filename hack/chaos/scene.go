package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"svcproxy/hack/internal/controlplane"
	"svcproxy/hack/internal/echo"
	"svcproxy/hack/internal/proxies"
	"svcproxy/hack/internal/surroundings"
	"svcproxy/hack/internal/wait"
)

// serviceCIDR is where cluster IPs are. A packet to one that no rule catches leaves the
// node like any other, and is refused outside, as by a router that knows no way.
const serviceCIDR = "10.96.0.0/16"

// scene is what faults are made in: everything runs.
type scene struct {
	opts     *options
	dir      string
	random   *rand.Rand
	around   *surroundings.Surroundings
	control  *controlplane.ControlPlane
	user     controlplane.User // that the proxy is
	services *services
	node     *node
	traffic  *traffic

	freshNodes int
}

// newScene starts all but the traffic, and waits until the proxy serves.
func newScene(ctx context.Context, opts *options, dir string) (*scene, error) {
	s := &scene{opts: opts, dir: dir, random: rand.New(rand.NewPCG(opts.seed, 0)), user: controlplane.Admin()}
	for _, step := range []func(context.Context) error{s.lay, s.startControlPlane, s.startProxy} {
		if err := step(ctx); err != nil {
			s.end()
			return nil, err
		}
	}
	return s, nil
}

// lay makes the network, and the pods in it.
func (s *scene) lay(context.Context) error {
	var err error
	if s.around, err = surroundings.New("chaos-"); err != nil {
		return err
	}
	router := surroundings.Addresses(surroundings.Outside)[0]
	if err := s.around.IP(surroundings.Node, fmt.Sprintf("route replace default via %s dev to2 onlink src %s", router, surroundings.NodeAddress)); err != nil {
		return err
	}
	if err := s.around.IP(surroundings.Outside, "route add local "+serviceCIDR+" dev lo"); err != nil {
		return err
	}
	// A reset would end connections that are only held up, and a UDP socket is told of
	// nothing but ports that cannot be reached.
	for protocol, answer := range map[string]string{"tcp": "icmp-host-unreachable", "udp": "icmp-port-unreachable"} {
		_, err := s.around.Run(surroundings.Outside, "iptables-nft", "-A", "INPUT", "-d", serviceCIDR, "-p", protocol, "-j", "REJECT", "--reject-with", answer)
		if err != nil {
			return err
		}
	}
	for _, host := range []string{surroundings.Node, surroundings.Outside} {
		// Refusals must not be rationed: each one is counted.
		if _, err := s.around.Run(host, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"); err != nil {
			return err
		}
	}
	return s.around.Do(surroundings.Pods, func() error {
		_, err := echo.Serve(surroundings.Addresses(surroundings.Pods))
		return err
	})
}

func (s *scene) startControlPlane(ctx context.Context) error {
	dir := filepath.Join(s.dir, "control-plane")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var err error
	s.control, err = controlplane.New(controlplane.Config{
		Bin: s.opts.bin, Dir: dir, Address: netip.MustParseAddr("127.0.0.1"), ServiceCIDRs: serviceCIDR,
		Authorization: "AlwaysAllow", Users: []controlplane.User{s.user},
	})
	if err != nil {
		return err
	}
	if err := s.control.Start(ctx); err != nil {
		return fmt.Errorf("start a control plane: %w", err)
	}
	client, err := s.control.Client(s.user.Token)
	if err != nil {
		return err
	}
	s.services, err = newServices(ctx, &objects{client}, rand.New(rand.NewPCG(s.opts.seed, 1)))
	return err
}

func (s *scene) startProxy(context.Context) error {
	kubeconfig, err := s.control.KubeconfigAt(surroundings.APIAddress, s.user)
	if err != nil {
		return err
	}
	if s.node, err = newNode(s.around.Netns(surroundings.Node), s.opts.kind, s.dir); err != nil {
		return err
	}
	if s.node.path, s.node.args, err = s.command(s.opts.kind, kubeconfig); err != nil {
		return err
	}
	return s.node.start()
}

// command returns a proxy and its flags.
func (s *scene) command(kind proxies.Kind, kubeconfig string) (path string, args []string, err error) {
	return kind.Command(proxies.Node{
		Svcproxy: s.opts.svcproxy, KubeProxy: filepath.Join(s.opts.bin, "kube-proxy"), Kubeconfig: kubeconfig, Name: nodeName,
		Dir: s.dir, ClusterCIDRs: []netip.Prefix{surroundings.ClusterCIDR}, MinSync: time.Second,
	})
}

// served waits until all is served as it is to be, news by that pod alone, and returns
// when it was so; ok is false if it was not after limit.
func (s *scene) served(ctx context.Context, told string, limit time.Duration) (at time.Time, ok bool) {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		at = time.Now()
		if s.traffic.right(ctx, told) {
			return at, true
		}
		if wait.Sleep(ctx, 20*time.Millisecond) != nil {
			break
		}
	}
	return at, false
}

// end ends what is not ended with the sandbox: a test may have another scene in it.
func (s *scene) end() {
	if s.node != nil {
		s.node.end()
	}
	if s.control != nil {
		if s.control.API != nil {
			s.control.API.Stop(syscall.SIGKILL)
		}
		if s.control.Etcd != nil {
			s.control.Etcd.Stop(syscall.SIGKILL)
		}
	}
	if s.around != nil {
		s.around.Remove()
	}
}
