package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// What ends svcproxy at its start is told at the Node before it ends.
func TestLastWords(t *testing.T) {
	if !inside(t) {
		return
	}
	objects, err := txtar.ParseFile("testdata/answers/kube-proxy.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for address, reason := range map[string]string{
		"127.0.0.1:10256": "FailedToStartProxierHealthcheck", "127.0.0.1:10249": "FailedToStartMetricServer",
	} {
		t.Run(reason, func(t *testing.T) {
			taken, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = taken.Close() }()
			api, kubeconfig := newAPIServer(t, section(objects, "objects.yaml"))
			args := []string{"--kubeconfig=" + kubeconfig, "--hostname-override=here", "--conntrack-max-per-core=0", "--conntrack-min=0"}
			var stdout, stderr bytes.Buffer
			if status := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr); status != 1 {
				t.Errorf("status %d", status)
			}
			got := api.told()
			want := "default Node here, Warning, " + reason + ", StartKubeProxy, --"
			if len(got) != 1 || !strings.HasPrefix(got[0], want) || !strings.Contains(got[0], address[len("127.0.0.1"):]) {
				t.Errorf("Events %q, want one that begins with %q and names the address", got, want)
			}
		})
	}
}
