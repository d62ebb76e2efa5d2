package lab

import "slices"

// setup is a scene in which a Service does not work: a section of
// docs/troubleshooting.md.
type setup struct {
	symptom string // what people see
	how     string // how it comes about, in a sentence
	cause   string // shell commands on the host that bring it about; empty: it is in testdata/broken.yaml
	undo    string // and those that end it
	host    string // where all this is, and trace runs; empty: centos100
	from    string // --from of trace, and the client; empty: the host
	in      string // --in of trace
	to      string // --to of trace
	more    string // further arguments of trace

	dial    string // what a client in there cannot reach meanwhile; empty: there is nothing to try
	reason  string // trace's code; empty: it is an error of the command
	arrives string // what trace says of that; empty: no
	todo    string // what to do about it
	both    bool   // on the legacy backend, too
}

const (
	one     = "10.101.0.1:80"
	nginx   = "10.101.231.134:80"
	pod     = "10.21.0.2"
	outside = "172.16.5.5"
)

// setups is every line of the runbook.
func setups() []setup {
	return slices.Concat(inObjects(), inRules(), inForeignRules(), onTheWire(), beyond())
}

// inObjects are those where the API objects are at fault.
func inObjects() []setup {
	return []setup{
		{
			symptom: "connection refused; the pods are there, and none is ready",
			how:     "The readiness probe of every pod of `not-ready` fails.",
			to:      "ns-test/not-ready", dial: "10.101.0.2:80", reason: "endpoints-not-ready",
			todo: "Find out why the pods are not ready: their events, the readiness probe, the containers' logs.",
		},
		{
			symptom: "connection refused; the pods run, and the Service does not know them",
			how:     "The selector of `no-pods` has a typing error, so no pod matches.",
			to:      "ns-test/no-pods", dial: "10.101.0.3:80", reason: "no-endpoints",
			todo: "Compare the Service's selector with the pods' labels.",
		},
		{
			symptom: "connection refused; endpoints are there and ready",
			how:     "The Service's `targetPort` names a port that the pods do not have: their slices know it by another name.",
			to:      "ns-test/lacks-port", dial: "10.101.0.4:80", reason: "endpoints-lack-port",
			todo: "Give the port of the Service and that of the containers the same name, or use its number.",
		},
		{
			symptom: "works from some nodes, and times out from others",
			how:     "`internalTrafficPolicy: Local`, and no endpoint is on this node.",
			to:      "ns-test/elsewhere", dial: "10.101.0.5:80", reason: "no-local-endpoints",
			todo: "Run a pod on every node that has clients (a DaemonSet), or set the policy to Cluster.",
		},
		{
			symptom: "times out at one port, and works at another",
			how:     "The client uses a port that the Service does not define.",
			to:      "ns-test/nginx-service:8080", dial: "10.101.231.134:8080", reason: "port-not-defined",
			todo: "Use the Service's `port`, which need not be the container's; or add the port to the Service.",
		},
		{
			symptom: "the name resolves, and no answer comes over UDP",
			how:     "The client speaks UDP to a port that is TCP's.",
			to:      "ns-test/nginx-service:80", more: "--proto udp", reason: "port-not-defined",
			todo: "Add a port with `protocol: UDP` to the Service; it may have the same number.",
		},
		{
			symptom: "the load balancer's address times out from some clients",
			how:     "`loadBalancerSourceRanges` of the Service does not hold the client.",
			to:      "203.0.113.6:80", from: pod, in: "cni0", dial: "203.0.113.6:80", reason: "source-ranges", both: true,
			todo: "Add the client's range, or have it use the cluster IP, for which the ranges do not count.",
		},
		{
			symptom: "there is no cluster IP to connect to",
			how:     "The Service is headless.",
			to:      "ns-test/headless", reason: "headless", arrives: "unknown",
			todo: "That is meant so: clients take the pods' addresses from DNS. If it is not, make a Service with a cluster IP.",
		},
		{
			symptom: "the name leads out of the cluster",
			how:     "The Service is an ExternalName.",
			to:      "ns-test/elsewhere-by-name", reason: "external-name", arrives: "unknown",
			todo: "See that the name resolves in pods, and whether they may connect to it.",
		},
		{
			symptom: "times out from everywhere, and no rule is made",
			how:     "The label `service.kubernetes.io/service-proxy-name` leaves the Service to another proxy.",
			to:      "ns-test/of-another-proxy", dial: "10.101.0.7:80", reason: "other-proxy", arrives: "unknown",
			todo: "Take the label away, or run the proxy that it names.",
		},
		{
			symptom: "the name of the Service is not known",
			how:     "A typing error.",
			to:      "ns-test/nginx-servce",
			todo:    "Use the name that trace finds nearest.",
		},
		{
			symptom: "the name of the Service is not known in this namespace",
			how:     "The client is in another namespace than the Service, and leaves that out of the name.",
			to:      "default/nginx-service",
			todo:    "Use SERVICE.NAMESPACE as name in DNS.",
		},
		{
			symptom: "connection refused, and the pods log nothing",
			how:     "`targetPort` is 8080, and nothing in the pod listens there.",
			to:      "ns-test/wrong-port", more: "--try", dial: "10.101.0.9:80", reason: "endpoint-refuses", arrives: "yes",
			todo: "Set `targetPort` to the port that the program in the pod listens at; see that it does not listen at 127.0.0.1 alone.",
		},
	}
}

// inRules are those where the service proxy's own rules are not what they should be.
func inRules() []setup {
	return []setup{
		{
			symptom: "connection refused, and only this Service, on only this node",
			how:     "The kernel refuses a rule of the Service, and svcproxy leaves it out so that all others are served.",
			to:      "ns-test/quarantined", dial: "10.101.0.8:80", reason: "quarantined",
			todo: "`svcproxy status` and the Event at the Service have the kernel's words; docs/quarantine.md says what helps.",
		},
		{
			symptom: "worked a minute ago, and times out on this node",
			how:     "Something has flushed a chain while svcproxy hangs, so that nobody puts it back.",
			cause:   "kill -STOP $SVCPROXY\n$IPTABLES -t nat -F KUBE-SVC-LZYIR727VBA3P3A4", undo: "kill -CONT $SVCPROXY",
			to: "ns-test/one", dial: one, reason: "rules-missing", both: true,
			todo: "Restart svcproxy on the node; docs/drift.md says how to find who flushes.",
		},
		{
			symptom: "the node port times out at one of the node's addresses",
			how:     "`--nodeport-addresses` is 192.168.0.0/24, and the node has another address, too.",
			to:      "192.168.77.100:30080", dial: "192.168.77.100:30080", reason: "node-port-closed",
			todo: "Use an address within the ranges, or extend --nodeport-addresses (nodePortAddresses in the configuration).",
		},
	}
}

// inForeignRules are those where somebody else's rules are in the way.
func inForeignRules() []setup {
	return []setup{
		{
			symptom: "times out from the node, and works from pods",
			how:     "A firewall drops what the node itself sends to pods.",
			cause:   "$IPTABLES -I OUTPUT -p tcp -d 10.21.0.0/16 -j DROP", undo: "$IPTABLES -D OUTPUT -p tcp -d 10.21.0.0/16 -j DROP",
			to: "ns-test/one", dial: one, reason: "foreign-drop", both: true,
			todo: "Find who writes the rule, and let traffic from and to the pod network through.",
		},
		{
			symptom: "connection refused from pods, and works from the node",
			how:     "A firewall rejects what is forwarded.",
			cause:   "$IPTABLES -I FORWARD -s 10.21.0.0/16 -j REJECT", undo: "$IPTABLES -D FORWARD -s 10.21.0.0/16 -j REJECT",
			to: "ns-test/one", from: pod, in: "cni0", dial: one, reason: "foreign-drop",
			todo: "Find who writes the rule, and let traffic from and to the pod network through.",
		},
		{
			symptom: "times out from one pod to everywhere",
			how:     "A rule in raw drops what the pod sends, before any Service is looked at.",
			cause:   "$IPTABLES -t raw -I PREROUTING -s 10.21.0.2 -j DROP", undo: "$IPTABLES -t raw -D PREROUTING -s 10.21.0.2 -j DROP",
			to: "ns-test/one", from: pod, in: "cni0", dial: one, reason: "foreign-drop",
			todo: "Find who writes the rule: `iptables -t raw -S` and `-t mangle -S` are easily overlooked.",
		},
		{
			symptom: "times out to pods on other nodes, and works to those on this one",
			how:     "A firewall blocks VXLAN between the nodes.",
			cause:   "$IPTABLES -t mangle -I POSTROUTING -p udp --dport 8472 -j DROP", undo: "$IPTABLES -t mangle -D POSTROUTING -p udp --dport 8472 -j DROP",
			to: "ns-test/one", dial: one, reason: "tunnel-dropped", both: true,
			todo: "Open UDP port 8472 between all nodes, here and in every firewall between them.",
		},
		{
			symptom: "times out from pods, and works from the node",
			how:     "The policy of FORWARD is DROP, as Docker sets it, and nothing lets pods through.",
			cause:   "$IPTABLES -P FORWARD DROP", undo: "$IPTABLES -P FORWARD ACCEPT",
			to: "10.21.1.2:80", from: pod, in: "cni0", dial: "10.21.1.2:80", reason: "policy-drop",
			todo: "Have the network plugin write rules that let pods through (flannel: --iptables-forward-rules), or set the policy to ACCEPT.",
		},
		{
			symptom: "times out, and `iptables -S` shows nothing that drops",
			how:     "The rule is in the other of the two iptables backends. The kernel asks both.",
			cause:   "$OTHER_IPTABLES -I OUTPUT -d 10.21.0.0/16 -j DROP", undo: "$OTHER_IPTABLES -F OUTPUT",
			to: "ns-test/one", dial: one, reason: "foreign-drop", both: true,
			todo: "Delete the rule by the tool of its backend, and let everything on the node use one.",
		},
	}
}

// onTheWire are those where routes, neighbours and devices are at fault.
func onTheWire() []setup {
	return []setup{
		{
			symptom: "times out to pods on other nodes",
			how:     "The routes to the other nodes' pods are gone: only the default one is left.",
			cause:   "ip route del 10.21.1.0/24\nip route del 10.21.3.0/24", undo: "$PEERS",
			to: "ns-test/one", dial: one, reason: "no-route",
			todo: "See whether the network plugin runs on this node: it writes these routes. Restart it.",
		},
		{
			symptom: "from the node: network is unreachable; pods work",
			how:     "The node has no default route, so that its own processes cannot even begin to send to a cluster IP.",
			cause:   "ip route del default", undo: "ip route add default via 192.168.0.1",
			to: "ns-test/one", dial: one, reason: "no-route",
			todo: "Give the node a default route, or one to the service network (`ip route add 10.96.0.0/12 dev eth0`).",
		},
		{
			symptom: "no route to host, for one pod",
			how:     "A route of type unreachable stands for the endpoint.",
			cause:   "ip route add unreachable 10.21.1.2", undo: "ip route del unreachable 10.21.1.2",
			to: "ns-test/one", dial: one, reason: "route-unreachable",
			todo: "Delete the route; network plugins leave such routes behind where an address was a pod's that is gone.",
		},
		{
			symptom: "half of the connections time out",
			how:     "One of two endpoints is on a node for which the forwarding entry of VXLAN is missing.",
			cause:   "bridge fdb del 5e:00:00:00:00:67 dev flannel.1 dst 192.168.0.103 self", undo: "$PEERS",
			to: "ns-test/nginx-service", reason: "fdb-missing", arrives: "partly",
			todo: "Restart the network plugin: it writes an entry for every node.",
		},
		{
			symptom: "times out to all pods of one node",
			how:     "The forwarding entry of VXLAN for that node is missing.",
			cause:   "bridge fdb del 5e:00:00:00:00:67 dev flannel.1 dst 192.168.0.103 self", undo: "$PEERS",
			to: "ns-test/one", dial: one, reason: "fdb-missing",
			todo: "Restart the network plugin: it writes an entry for every node.",
		},
		{
			symptom: "times out to all pods of one node, after it was replaced",
			how:     "The neighbour entry (ARP) of its end of the tunnel is missing.",
			cause:   "ip neigh del 10.21.1.0 dev flannel.1", undo: "$PEERS",
			to: "ns-test/one", dial: one, reason: "neighbour-unresolved",
			todo: "Restart the network plugin: it writes an entry for every node.",
		},
		{
			symptom: "times out to a pod that is gone",
			how:     "The node of the pod lost it, and the slice still has it: kubelet is down, or the slice is written by hand.",
			to:      "ns-test/gone", dial: "10.101.0.12:80", reason: "neighbour-unresolved",
			todo: "See whether kubelet runs on the endpoint's node; delete the endpoint from a slice that was written by hand.",
		},
		{
			symptom: "times out to pods on other nodes, and the tunnel's device is down",
			how:     "flannel.1 is down, and with it its routes are gone.",
			cause:   "ip link set flannel.1 down", undo: "ip link set flannel.1 up\n$PEERS",
			to: "ns-test/one", dial: one, reason: "link-down",
			todo: "Set it up, and restart the network plugin, which writes the routes anew.",
		},
		{
			symptom: "times out to one pod, from the pod's own node, too",
			how:     "The pod's device is down.",
			host:    "centos103", cause: "ip link set veth1.2 down", undo: "ip link set veth1.2 up",
			to: "ns-test/one", dial: one, reason: "link-down",
			todo: "Set it up, or delete the pod, so that the network plugin makes another one.",
		},
		{
			symptom: "times out from outside by one interface, and works by another",
			how:     "The way back to the client leaves by another device than the packet came in by, and strict rp_filter drops it.",
			cause:   "ip route add 172.16.5.0/24 dev cni0\nsysctl -qw net.ipv4.conf.eth0.rp_filter=1", undo: "ip route del 172.16.5.0/24 dev cni0\nsysctl -qw net.ipv4.conf.eth0.rp_filter=0",
			to: "ns-test/one", from: outside, in: "eth0", dial: one, reason: "rp-filter",
			todo: "Put the route right; or, where the ways differ on purpose, set rp_filter to 2 (loose).",
		},
		{
			symptom: "times out from pods to other nodes, and works from the node",
			how:     "Something has set net.ipv4.ip_forward to 0.",
			cause:   "sysctl -qw net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1",
			to: "ns-test/one", from: pod, in: "cni0", dial: one, reason: "ip-forward-off",
			todo: "Set it to 1 and find who sets it to 0: `sysctl --system`, a firewall's start, cloud-init.",
		},
		{
			symptom: "a pod does not reach itself through its Service",
			how:     "Hairpin is off at the pod's port of the bridge.",
			host:    "centos103", cause: "ip link set veth1.2 type bridge_slave hairpin off", undo: "ip link set veth1.2 type bridge_slave hairpin on",
			to: "ns-test/one", from: "10.21.1.2", in: "cni0", dial: one, reason: "hairpin-off",
			todo: "Set `hairpinMode: true` in the bridge plugin's configuration, and `ip link set PORT type bridge_slave hairpin on` for pods that run.",
		},
		{
			symptom: "the node port works at the node's address, and not at localhost",
			how:     "Something has set net.ipv4.conf.all.route_localnet back to 0.",
			cause:   "sysctl -qw net.ipv4.conf.all.route_localnet=0", undo: "sysctl -qw net.ipv4.conf.all.route_localnet=1",
			to: "127.0.0.1:30080", dial: "127.0.0.1:30080", reason: "martian",
			todo: "Find who sets it, or use the node's address instead.",
		},
	}
}

// beyond are those that are in what the kernel remembers.
func beyond() []setup {
	return []setup{
		{
			symptom: "DNS from one client times out, and works from all others",
			how:     "A flow over UDP still leads to an endpoint that is gone, and the client sends from the same port again and again, which keeps it alive.",
			cause:   "conntrack -I -p udp -s 192.168.0.100 -d 10.101.0.11 --sport 5353 --dport 53 --reply-src 10.21.3.77 --reply-dst 192.168.0.100 --reply-port-src 5353 --reply-port-dst 5353 -t 300",
			undo:    "conntrack -D -p udp -d 10.101.0.11",
			to:      "ns-test/dns", from: "192.168.0.100", reason: "stale-conntrack", arrives: "yes",
			todo: "Delete the flow. svcproxy does so by itself when an endpoint goes; entries that outlive that were made while it did not run.",
		},
	}
}
