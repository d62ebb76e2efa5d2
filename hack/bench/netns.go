package main

import (
	"fmt"
	"net/netip"

	"svcproxy/hack/internal/sandbox"
)

// netns is a network namespace, the node of one proxy. A veth joins it to the
// one that the bench is in, where control plane and pods are.
type netns struct {
	sandbox.Netns
	nodeIP netip.Addr // of the node
	podIP  netip.Addr // where connections come from: a pod's need no masquerading
}

// newNetns makes the n-th one; n is never used twice, since the kernel takes
// links away some time after their namespace.
func newNetns(n int) (*netns, error) {
	made, err := sandbox.NewNetns(fmt.Sprint("node-", n))
	if err != nil {
		return nil, err
	}
	ns := &netns{Netns: made, nodeIP: nthIP(nodeNetwork, n), podIP: nthIP(clientNetwork, n)}
	link := fmt.Sprint("to-", n)
	err = sandbox.IP("link add "+link+" type veth peer name eth0 netns "+ns.name(),
		fmt.Sprintf("addr add %s peer %s dev %s", controlIP, ns.nodeIP, link),
		"link set "+link+" up",
		fmt.Sprintf("route add %s dev %s", ns.podIP, link))
	if err != nil {
		return nil, err
	}
	return ns, ns.Do(func() error {
		return sandbox.IP(fmt.Sprintf("addr add %s peer %s dev eth0", ns.nodeIP, controlIP),
			"link set eth0 up",
			fmt.Sprintf("addr add %s/32 dev eth0", ns.podIP),
			fmt.Sprintf("route add default via %s src %s", controlIP, ns.podIP))
	})
}

func (ns *netns) name() string { return string(ns.Netns) }
