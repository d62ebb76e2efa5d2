package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"svcproxy/hack/internal/machine"
)

// report prints what came out and, if asked to, writes the document.
func report(r results, o *options, took time.Duration, stdout io.Writer) error {
	var text bytes.Buffer
	writeTables(&text, r)
	fmt.Fprintf(&text, "### Bars\n\n")
	writeBars(&text, judge(r))
	if _, err := stdout.Write(text.Bytes()); err != nil || o.docs == "" {
		return err
	}
	var doc bytes.Buffer
	fmt.Fprintf(&doc, document, machine.KubeProxyVersion(filepath.Join(o.bin, "kube-proxy")), plotName, o.shown, took.Minutes(), machine.Describe(), o.minSync)
	doc.Write(text.Bytes())
	if err := os.WriteFile(filepath.Join(o.docs, "performance.md"), doc.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.docs, plotName), plot(r), 0o644)
}

const plotName = "performance.svg"

// document begins docs/performance.md.
const document = `# Performance

What rules cost, beside the real kube-proxy %s. ` + "`make bench`" + ` measures all of it again and writes this page;
` + "`make bench QUICK=1`" + ` takes some minutes and prints 1,000 Services alone. Ratios travel between machines, times do not.

![Cost against the number of Services](%s)

## How it is measured

The last run was ` + "`bench%s`" + `. It took %.0f minutes on %s.

Every proxy runs in a network namespace of its own, joined by a veth to one where etcd, a real API server and all pods are, and
is told the same: the same objects, the pods' network, a least period of %v between syncs. Services have cluster IPs from all over
10.96.0.0/12, a port, no selector, and an EndpointSlice. kube-proxy's backend is the iptables that it finds first on its PATH.

Proxies take turns: A B C, A B C. All but the one that is measured are stopped (SIGSTOP); it gets time to catch up before it is
measured. Between changes is more than the least period, so that no proxy waits it out. When the kernel has a change is seen in
packets, for all proxies alike: connections are made through the Service, in a loop with pauses of 0.5 ms, until one gets to the new
endpoint. Input is counted apart, through a shim that keeps it; that shim is out of the way of all times but those of one Service
with many endpoints, where a packet would rarely meet the new one. There it costs each proxy about 3 ms.

Connections come from a pod's address, so that nothing is masqueraded, and cross a veth. They are timed one by one, with connect(2), while all
proxies are stopped. The same destinations are reached in the same minute on a node without rules and on nodes with one Service.

Cells read: median (least-greatest) = ratio to kube-proxy on the same backend. In a bar, "no slower" allows for 5 %% of noise. A proxy whose first sync is
over the time limit is given up at that size: ">" and the limit.

## Figures

`
