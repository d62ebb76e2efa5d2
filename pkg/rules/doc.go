// Package rules turns Services into iptables rules. It is pure: values in,
// values out, standard library only, no I/O, no clock, no logging, no randomness.
//
// The way through it: a [Snapshot] of the cluster goes into [Build] (or a
// [Builder], which remembers), which gives the [Ruleset] wanted; [NewPlan]
// compares it with what the kernel has, as read by an [OwnReader], and
// lists the least to write; [RenderTransaction] makes text of that for
// iptables-restore. [Walk] sends a packet through any tables, ours or not, and
// says what becomes of it.
//
// # The chains
//
// Names and meaning are kube-proxy's, so that whoever knows one knows the other.
//
//	nat     PREROUTING, OUTPUT ──► KUBE-SERVICES
//	          a cluster IP ──────────────────────────► KUBE-SVC (KUBE-SVL, if internal policy Local)
//	          an external or load balancer IP ───────► KUBE-EXT
//	          a load balancer IP with source ranges ─► KUBE-FW ─► KUBE-EXT
//	          a local address ─► KUBE-NODEPORTS ─────► KUBE-EXT
//
//	        KUBE-EXT ─► KUBE-SVC; with external policy Local, outsiders go to KUBE-SVL
//	        KUBE-SVC, KUBE-SVL ─► one KUBE-SEP for each endpoint, at random or by affinity
//	        KUBE-SEP: DNAT to the endpoint
//
//	        With many endpoints, KUBE-SVC leads to buckets of them, KUBE-SVC-...-00 and
//	        so on, or to groups of buckets, KUBE-SVC-...-0; with many Services,
//	        KUBE-SERVICES and the other chains that list them lead on by some bits of
//	        the address or port, to KUBE-SVC-IP-0A6 for 10.96.0.0/12 and so on: see
//	        balance.go and dispatch.go
//
//	        KUBE-MARK-MASQ, from any of these: mark the packet for a rewritten source
//
//	        POSTROUTING ──► KUBE-POSTROUTING: MASQUERADE what is marked
//
//	filter  FORWARD, OUTPUT ──► KUBE-SERVICES: refuse cluster IPs that nobody serves,
//	                            then the rest of the service network
//	        INPUT, FORWARD ──► KUBE-EXTERNAL-SERVICES: the same for all other addresses
//	        INPUT, FORWARD, OUTPUT ──► KUBE-PROXY-FIREWALL: drop what KUBE-FW let fall
//	        INPUT ──► KUBE-NODEPORTS: accept health checks
//	        INPUT, OUTPUT ──► KUBE-FIREWALL: guard loopback addresses, if they have node ports
//	        FORWARD ──► KUBE-FORWARD: let service traffic through a FORWARD policy of DROP
package rules
