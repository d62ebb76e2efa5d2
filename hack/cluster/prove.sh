#!/usr/bin/env bash
# Tries on a running cluster (cluster.sh up) what must not cost a request:
#
#   prove.sh swap      kube-proxy in svcproxy's place and back, while requests run
#   prove.sh power     the power cut for all machines: how long until all answers again
#   prove.sh latency   a new endpoint, from its event to rules in the kernel of every
#                      node, with svcproxy and with kube-proxy
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cluster=$here/cluster.sh
vip=10.101.231.134
work=$(mktemp -d)
loads=()

on() { "$cluster" enter "$@"; }
kubectl() { "$cluster" kubectl "$@"; }

finish() {
	local status=$?
	trap - EXIT
	touch "$work/stop"
	wait
	rm -rf "$work"
	exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mapfile -t hosts < <("$here/machines.sh" list | awk '{ print $1 }')

start_nginx() {
	tar -C "$root/manifests" -cf - nginx-demo | on centos100 'rm -rf demo && mkdir demo && tar -xf - -C demo --strip-components 1 && sh demo/start.sh fixed-ip >/dev/null 2>&1'
}

# start_load: requests without a pause from every host, each a new connection.
start_load() {
	local h
	rm -f "$work/stop"
	for h in "${hosts[@]}"; do
		while [ ! -e "$work/stop" ]; do
			on "$h" "for i in \$(seq 100); do curl -sf -o /dev/null --max-time 5 http://$vip && echo ok || echo FAILED; done"
		done >"$work/$h.answers" &
		loads+=($!)
	done
}

# stop_load: says how many there were; fails if one failed.
stop_load() {
	touch "$work/stop"
	wait "${loads[@]}"
	loads=()
	local total failed
	total=$(cat "$work"/*.answers | wc -l)
	failed=$(cat "$work"/*.answers | grep -c FAILED || true)
	echo "$1: $total requests from ${#hosts[@]} hosts, $failed failed"
	[ "$failed" -eq 0 ] && [ "$total" -gt 0 ]
}

# swap_to PROXY: with requests running before, meanwhile and after.
swap_to() {
	start_load
	sleep 2
	PROXY=$1 "$cluster" up >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; return 1; }
	sleep 2
	stop_load "to $1"
}

swap() {
	start_nginx
	swap_to kube-proxy
	swap_to svcproxy
	swap_to kube-proxy
	swap_to svcproxy
}

power() {
	start_nginx
	"$cluster" off
	local began=$SECONDS h
	"$cluster" boot
	for h in "${hosts[@]}"; do
		until on "$h" "curl -sf -o /dev/null --max-time 2 http://$vip" 2>/dev/null; do sleep 0.5; done
		echo "$h: http://$vip answers $((SECONDS - began)) s after the boot began"
	done
	[ $((SECONDS - began)) -le 60 ]
}

latency() {
	local proxy h namespaces=() results=${XDG_CACHE_HOME:-$HOME/.cache}/svcproxy/e2e-results
	for h in "${hosts[@]}"; do namespaces+=("${CLUSTER_NAME:-svcproxy-cluster}-$h"); done
	(cd "$root" && go build -o "$work/latency" ./hack/cluster/latency)
	for proxy in svcproxy kube-proxy svcproxy kube-proxy svcproxy; do
		PROXY=$proxy "$cluster" up >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; return 1; }
		sleep 5
		echo "$proxy: $("$cluster" run "$work/latency" --samples "${SAMPLES:-40}" "${namespaces[@]}")"
	done | tee "$work/results"
	mkdir -p "$results"
	cp "$work/results" "$results/latency"
}

case ${1:-} in
swap | power | latency) "$1" ;;
*) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
