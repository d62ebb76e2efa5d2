package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// shopList is the objects of testdata/trace/shop.yaml as one List.
func shopList(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/trace/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var items []json.RawMessage
	for docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text))); ; {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		item, err := yaml.YAMLToJSON(doc)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item)
	}
	list, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// With a cluster trace says what it says with the same objects in files, though it asks
// for those alone that the packet has to do with.
func TestTraceWithACluster(t *testing.T) {
	_, kubeconfig := newAPIServer(t, shopList(t))
	flags := []string{"--hostname-override=here", "--cluster-cidr=10.21.0.0/16"}
	cluster := append(slices.Clone(flags), "--kubeconfig", kubeconfig)
	files := append(slices.Clone(flags), "-f", "testdata/trace/shop.yaml")
	for _, args := range [][]string{
		{"--to", "shop/cart:http"},
		{"--to", "shop/cart:metrics", "--from", "pod/cart-a"},
		{"--to", "cart.shop:8080"},
		{"--to", "shop/checkout"},
		{"--to", "empty"},
		{"--to", "shop/db"},
		{"--to", "10.250.0.2:30443", "--from", "198.51.100.9", "--in", "eth0"},
		{"--to", "10.96.0.80"},
		{"--to", "10.96.9.9:80"},
	} {
		byCluster := traced(t, "", slices.Concat(cluster, args, []string{"--rules=objects"})...)
		byFiles := traced(t, "", slices.Concat(files, args)...)
		if byCluster.Sentence != byFiles.Sentence || !slices.Equal(codes(byCluster), codes(byFiles)) || !slices.Equal(byCluster.Ends, byFiles.Ends) {
			t.Errorf("%v: by the cluster %v: %s\nby files %v: %s", args, codes(byCluster), byCluster.Sentence, codes(byFiles), byFiles.Sentence)
		}
	}
	nobody := traced(t, "", "--kubeconfig", kubeconfig, "--hostname-override=nobody", "--to=shop/cart:http", "--rules=objects")
	if want := "Node metadata.name: nobody: there is none in the cluster"; len(nobody.Remarks) == 0 || !strings.HasPrefix(nobody.Remarks[len(nobody.Remarks)-1], want) {
		t.Errorf("%q, want %s", nobody.Remarks, want)
	}
	var stdout, stderr bytes.Buffer
	status := run(context.Background(), slices.Concat([]string{"trace"}, cluster, []string{"--to", "shop/chekout"}), strings.NewReader(""), &stdout, &stderr)
	if want := "there is no Service shop/chekout in the cluster; is it shop/checkout?"; status != 1 || !strings.Contains(stderr.String(), want) {
		t.Errorf("status %d: %s, want %s", status, &stderr, want)
	}
}

// A command does not wait for ever for an API server that does not answer.
func TestObjectsAreNotWaitedForForever(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(func() { silent.CloseClientConnections(); silent.Close() })
	_, _, err := configured(t, "--master="+silent.URL).snapshotWithin(t.Context(), 50*time.Millisecond)
	if err == nil || err.Error() != "read the objects: not all are there after 50ms: see that the API server can be reached, or give objects by -f" {
		t.Error(err)
	}
}

// In a pod the API server is asked by a cluster IP. Where that does not work trace goes
// by the rules alone.
func TestTraceInAPodWithoutItsCluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "1")
	r := traced(t, "", "--rules", "testdata/trace/foreign.save", "--to", "shop/cart", "--from", "10.21.1.99", "--in", "cni0")
	if r.To.Service != "shop/cart" || len(r.Ends) != 3 || !strings.HasPrefix(strings.Join(r.Remarks, " "), "The cluster does not answer (") {
		t.Errorf("%+v, %q: %s", r.To, r.Remarks, r.Sentence)
	}
}
