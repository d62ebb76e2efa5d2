// Command latency measures how long a new endpoint takes from the event of its
// EndpointSlice to rules in the kernel of every node, whatever service proxy
// writes them with the nft backend. The nodes are network namespaces of this
// machine, so that all times are of one clock.
//
//	latency --kubeconfig FILE --samples 100 NAMESPACE...
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"svcproxy/hack/internal/wait"
)

const (
	namespace = "default"
	name      = "latency"
	port      = 8080
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("latency", flag.ContinueOnError)
	fs.SetOutput(stderr)
	kubeconfig := fs.String("kubeconfig", os.Getenv("KUBECONFIG"), "`file` that says how to reach the API server")
	samples := fs.Int("samples", 100, "how many endpoints to add")
	pause := fs.Duration("pause", 1500*time.Millisecond, "time between two, so that no proxy is still waiting out its least period")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if fs.NArg() == 0 || *samples < 1 {
		fmt.Fprintln(stderr, "latency: name the network namespaces of the nodes, and one sample at least")
		return 2
	}
	taken, err := measure(ctx, *kubeconfig, fs.Args(), *samples, *pause)
	if err != nil {
		fmt.Fprintln(stderr, "latency:", err)
		return 1
	}
	slices.Sort(taken)
	at := func(q float64) time.Duration {
		return taken[int(q*float64(len(taken)-1))].Round(100 * time.Microsecond)
	}
	fmt.Fprintf(stdout, "slice event to rules, %d nodes x %d endpoints: p50 %v  p95 %v  max %v\n", fs.NArg(), *samples, at(0.5), at(0.95), at(1))
	return 0
}

// measure returns the time of every endpoint on every node.
func measure(ctx context.Context, kubeconfig string, nodes []string, samples int, pause time.Duration) ([]time.Duration, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	if err := create(ctx, client); err != nil {
		return nil, err
	}
	defer remove(context.WithoutCancel(ctx), client)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := watchSlice(ctx, client)
	if err != nil {
		return nil, err
	}
	var monitors []<-chan seen
	for _, node := range nodes {
		m, err := monitor(ctx, node)
		if err != nil {
			return nil, err
		}
		monitors = append(monitors, m)
	}
	var out []time.Duration
	for i := range samples {
		if err := wait.Sleep(ctx, pause); err != nil {
			return nil, err
		}
		address := fmt.Sprintf("10.21.250.%d", i%250+1)
		if err := setEndpoint(ctx, client, address); err != nil {
			return nil, err
		}
		heard, err := await(ctx, events, address)
		if err != nil {
			return nil, fmt.Errorf("event of %s: %w", address, err)
		}
		for n, m := range monitors {
			there, err := await(ctx, m, chain(address))
			if err != nil {
				return nil, fmt.Errorf("%s: rules for %s: %w", nodes[n], address, err)
			}
			out = append(out, there.Sub(heard))
		}
	}
	return out, nil
}

// create makes a Service whose endpoints nobody else manages.
func create(ctx context.Context, client kubernetes.Interface) error {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: port}}},
	}
	if _, err := client.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if _, err := client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice("10.21.250.254"), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

func remove(ctx context.Context, client kubernetes.Interface) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_ = client.DiscoveryV1().EndpointSlices(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	_ = client.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{})
}

func setEndpoint(ctx context.Context, client kubernetes.Interface, address string) error {
	_, err := client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, slice(address), metav1.UpdateOptions{})
	return err
}

func slice(address string) *discoveryv1.EndpointSlice {
	protocol, number := corev1.ProtocolTCP, int32(port)
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new(string), Protocol: &protocol, Port: &number}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}}},
	}
}
