package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"svcproxy/pkg/rules"
	"svcproxy/pkg/watch"
)

// catalogue returns the objects that the flags name, or those of the cluster whose pod
// this is; nil: there are none. to says which Services come into question.
func (o *options) catalogue(ctx context.Context, to *traceTo) (*catalogue, error) {
	switch {
	case len(o.files) > 0:
		return o.fileCatalogue()
	case o.master != "" || o.settings.ClientConnection.Kubeconfig != "":
		return o.clusterCatalogue(ctx, to)
	case os.Getenv("KUBERNETES_SERVICE_HOST") != "":
		ctx, cancel := context.WithTimeout(ctx, podPatience)
		defer cancel()
		c, err := o.clusterCatalogue(ctx, to)
		if err != nil {
			return nil, noClusterError{err}
		}
		return c, nil
	}
	return nil, nil
}

// podPatience is how long the API server may take where nobody asked for it. In a pod it
// is asked by its cluster IP, which may be what does not work.
const podPatience = 5 * time.Second

// noClusterError is the failure of a cluster that was not asked for.
type noClusterError struct{ error }

func (e noClusterError) Unwrap() error { return e.error }

// fileObjects are the objects in files.
type fileObjects struct {
	options  *options
	services []corev1.Service
	slices   []discoveryv1.EndpointSlice
	pods     []corev1.Pod

	snap     *rules.Snapshot // nil: not made yet; standard input can be read once
	problems []watch.Problem
}

func (o *options) fileCatalogue() (*catalogue, error) {
	if slices.Contains(o.files, "-") { // which is read twice
		text, err := io.ReadAll(o.stdin)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		o.stdin = bytes.NewReader(text)
		defer func() { o.stdin = bytes.NewReader(text) }()
	}
	f := &fileObjects{options: o}
	if err := watch.EachObject(o.files, o.stdin, f.add); err != nil {
		return nil, fmt.Errorf("read the objects: %w", err)
	}
	return &catalogue{from: strings.Join(o.files, ", "), services: f.services, store: f}, nil
}

// add takes in an object. One that cannot be decoded is among the snapshot's problems.
func (f *fileObjects) add(apiVersion, kind string, raw []byte) {
	switch apiVersion + " " + kind {
	case "v1 Service":
		f.services = appendDecoded(f.services, raw)
	case "discovery.k8s.io/v1 EndpointSlice":
		f.slices = appendDecoded(f.slices, raw)
	case "v1 Pod":
		f.pods = appendDecoded(f.pods, raw)
	}
}

func appendDecoded[T any, P interface {
	*T
	metav1.Object
}](list []T, raw []byte) []T {
	var object T
	if json.Unmarshal(raw, &object) != nil {
		return list
	}
	if o := P(&object); o.GetNamespace() == "" {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	return append(list, object)
}

func (f *fileObjects) names(context.Context) ([]string, error) { return namesOf(f.services), nil }

func namesOf(services []corev1.Service) []string {
	var out []string
	for i := range services {
		out = append(out, services[i].Namespace+"/"+services[i].Name)
	}
	return out
}

func (f *fileObjects) slicesOf(_ context.Context, svc *corev1.Service) ([]discoveryv1.EndpointSlice, error) {
	var out []discoveryv1.EndpointSlice
	for _, s := range f.slices {
		if s.Namespace == svc.Namespace && s.Labels[discoveryv1.LabelServiceName] == svc.Name {
			out = append(out, s)
		}
	}
	return out, nil
}

func (f *fileObjects) podsNamed(_ context.Context, namespace, name string) ([]corev1.Pod, error) {
	var out []corev1.Pod
	for _, p := range f.pods {
		if p.Name == name && (namespace == "" || p.Namespace == namespace) {
			out = append(out, p)
		}
	}
	return out, nil
}

func (f *fileObjects) snapshot(ctx context.Context, _ *corev1.Service) (*rules.Snapshot, []watch.Problem, error) {
	var err error
	if f.snap == nil {
		f.snap, f.problems, err = f.options.snapshot(ctx)
	}
	return f.snap, f.problems, err
}

// clusterObjects are the objects of an API server. They are listed by name, which is
// what the role of svcproxy allows.
type clusterObjects struct {
	options *options
	api     kubernetes.Interface
}

func (o *options) clusterCatalogue(ctx context.Context, to *traceTo) (*catalogue, error) {
	api, err := o.client(nil)
	if err != nil {
		return nil, err
	}
	c := &clusterObjects{o, api}
	var list metav1.ListOptions
	if to.name != "" {
		list = named(to.name)
	}
	services, err := c.servicesIn(ctx, to.namespace, list)
	if err != nil {
		return nil, err
	}
	return &catalogue{from: "the cluster", services: services, store: c}, nil
}

// named selects the objects of that name. A resource version of 0 takes what the API
// server has at hand.
func named(name string) metav1.ListOptions {
	return metav1.ListOptions{ResourceVersion: "0", FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
}

func (c *clusterObjects) servicesIn(ctx context.Context, namespace string, list metav1.ListOptions) ([]corev1.Service, error) {
	list.ResourceVersion = "0"
	found, err := c.api.CoreV1().Services(namespace).List(ctx, list)
	if err != nil {
		return nil, fmt.Errorf("list the Services: %w", err)
	}
	return found.Items, nil
}

func (c *clusterObjects) names(ctx context.Context) ([]string, error) {
	all, err := c.servicesIn(ctx, "", metav1.ListOptions{})
	return namesOf(all), err
}

func (c *clusterObjects) slicesOf(ctx context.Context, svc *corev1.Service) ([]discoveryv1.EndpointSlice, error) {
	of := labels.Set{discoveryv1.LabelServiceName: svc.Name}.String()
	found, err := c.api.DiscoveryV1().EndpointSlices(svc.Namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0", LabelSelector: of})
	if err != nil {
		return nil, fmt.Errorf("list the EndpointSlices of %s/%s: %w", svc.Namespace, svc.Name, err)
	}
	return found.Items, nil
}

func (c *clusterObjects) podsNamed(ctx context.Context, namespace, name string) ([]corev1.Pod, error) {
	found, err := c.api.CoreV1().Pods(namespace).List(ctx, named(name))
	if err != nil {
		return nil, err
	}
	return found.Items, nil
}

// snapshot of one Service is made of what was listed for it: to read all others as
// well takes seconds in a large cluster.
func (c *clusterObjects) snapshot(ctx context.Context, svc *corev1.Service) (*rules.Snapshot, []watch.Problem, error) {
	if svc == nil {
		return c.options.snapshot(ctx)
	}
	nodes, err := c.ownNode(ctx)
	if err != nil {
		return nil, nil, err
	}
	text, err := c.about(ctx, svc, nodes)
	if err != nil {
		return nil, nil, err
	}
	from := *c.options
	from.files, from.stdin = []string{"-"}, bytes.NewReader(text)
	snap, problems, err := from.snapshot(ctx)
	if len(nodes) == 0 {
		problems = append(problems, watch.Problem{Object: nodeObject, Field: "metadata.name", Value: c.options.settings.nodeName,
			Reason: "there is none in the cluster, so no endpoint is known to be on this node; give --hostname-override"})
	}
	return snap, problems, err
}

// nodeObject is the object of a problem with the Node.
const nodeObject = "Node"

// ownNode returns the Node of this node, or nothing.
func (c *clusterObjects) ownNode(ctx context.Context) ([]corev1.Node, error) {
	nodes, err := c.api.CoreV1().Nodes().List(ctx, named(c.options.settings.nodeName))
	if err != nil {
		return nil, fmt.Errorf("look for Node %s: %w", c.options.settings.nodeName, err)
	}
	return nodes.Items, nil
}

// about is a List of all that the rules for a Service depend on.
func (c *clusterObjects) about(ctx context.Context, svc *corev1.Service, nodes []corev1.Node) ([]byte, error) {
	var items []any
	add := func(apiVersion, kind string, meta *metav1.TypeMeta, object any) {
		meta.APIVersion, meta.Kind = apiVersion, kind
		items = append(items, object)
	}
	add("v1", "Service", &svc.TypeMeta, svc)
	eps, err := c.slicesOf(ctx, svc)
	if err != nil {
		return nil, err
	}
	for i := range eps {
		add("discovery.k8s.io/v1", "EndpointSlice", &eps[i].TypeMeta, &eps[i])
	}
	for i := range nodes {
		add("v1", "Node", &nodes[i].TypeMeta, &nodes[i])
	}
	// Without the right to list them, or in an old cluster, rules do without them too.
	if cidrs, err := c.api.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{ResourceVersion: "0"}); err == nil {
		for i := range cidrs.Items {
			add("networking.k8s.io/v1", "ServiceCIDR", &cidrs.Items[i].TypeMeta, &cidrs.Items[i])
		}
	}
	return json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}
