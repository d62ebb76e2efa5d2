#!/usr/bin/env bash
# The scene on one machine: three hosts on 192.168.0.0/24, joined by a bridge,
# with flannel's VXLAN between their pod networks, nginx in two pods, and
# svcproxy on every host. Everything is in network namespaces whose names begin
# with $LAB; nothing else of the machine changes.
#
#   lab.sh up | down | exec HOST COMMAND... | endpoints ADDRESS... | peers HOST
set -euo pipefail

LAB=${LAB:-svcproxy-lab}
root=$(cd "$(dirname "$0")/../.." && pwd)
SVCPROXY=${SVCPROXY:-$root/bin/svcproxy}
dir=/run/$LAB
backend=${BACKEND:-auto}
read -ra flags <<<"${FLAGS:-}" # more of svcproxy's

hosts=(centos100 centos101 centos103)
declare -A number=([centos100]=100 [centos101]=101 [centos103]=103)
declare -A subnet=([centos100]=0 [centos101]=3 [centos103]=1)
declare -A mac=([centos100]=5e:00:00:00:00:64 [centos101]=5e:00:00:00:00:65 [centos103]=5e:00:00:00:00:67)
# The third pod, on centos100, runs from the start but gets no traffic before it
# is among the endpoints.
declare -A pod_host=([10.21.1.2]=centos103 [10.21.3.2]=centos101 [10.21.0.2]=centos100)

in_ns() { ip netns exec "$LAB-$1" "${@:2}"; }

add_host() { # HOST: eth0 on the shared bridge, cni0 for its pods
	local h=$1 n=${number[$1]} s=${subnet[$1]}
	ip netns add "$LAB-$h"
	ip -n "$LAB-wire" link add "p$n" type veth peer name eth0 address "$(printf '52:00:00:00:00:%02x' "$n")" netns "$LAB-$h"
	ip -n "$LAB-wire" link set "p$n" master br0 up
	ip -n "$LAB-$h" -batch - <<-EOF
		link set lo up
		link set eth0 up
		addr add 192.168.0.$n/24 dev eth0
		route add default via 192.168.0.1
		link add cni0 type bridge
		addr add 10.21.$s.1/24 dev cni0
		link set cni0 mtu 1450 up
		link add flannel.1 address ${mac[$h]} mtu 1450 type vxlan id 1 dstport 8472 local 192.168.0.$n dev eth0 nolearning
		addr add 10.21.$s.0/32 dev flannel.1
		link set flannel.1 up
	EOF
	in_ns "$h" sysctl -qw net.ipv4.ip_forward=1
	# A pod that reaches a pod beside it through the Service must be seen by
	# iptables on the way back too.
	in_ns "$h" sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true
}

add_peer() { # HOST PEER: the route, ARP and FDB entries that flannel writes
	local n=${number[$2]} s=${subnet[$2]} m=${mac[$2]}
	ip -n "$LAB-$1" route replace "10.21.$s.0/24" via "10.21.$s.0" dev flannel.1 onlink
	ip -n "$LAB-$1" neigh replace "10.21.$s.0" lladdr "$m" dev flannel.1 nud permanent
	bridge -n "$LAB-$1" fdb replace "$m" dev flannel.1 dst "192.168.0.$n" self permanent
}

# peers HOST: all of these that the host has, again; also where some are left.
peers() {
	local p
	for p in "${hosts[@]}"; do [ "$1" = "$p" ] || add_peer "$1" "$p"; done
}

add_pod() { # ADDRESS
	local ip=$1 h=${pod_host[$1]} ns=$LAB-pod-$1 conf address
	printf -v address '0a:58:%02x:%02x:%02x:%02x' ${ip//./ }
	ip netns add "$ns"
	ip -n "$LAB-$h" link add "veth${ip##*.21.}" type veth peer name eth0 address "$address" netns "$ns"
	ip -n "$LAB-$h" link set "veth${ip##*.21.}" master cni0 mtu 1450 up
	ip -n "$LAB-$h" link set "veth${ip##*.21.}" type bridge_slave hairpin on
	ip -n "$ns" link set lo up
	ip -n "$ns" addr add "$ip/24" dev eth0
	ip -n "$ns" link set eth0 mtu 1450 up
	ip -n "$ns" route add default via "${ip%.*}.1"
	conf=$dir/nginx-$ip
	mkdir -p "$conf"
	cat >"$conf/nginx.conf" <<-EOF
		worker_processes 1;
		pid $conf/pid;
		error_log $conf/error.log;
		events { worker_connections 1024; }
		http {
			access_log $conf/access.log;
			client_body_temp_path $conf/body; proxy_temp_path $conf/proxy;
			fastcgi_temp_path $conf/fastcgi; uwsgi_temp_path $conf/uwsgi; scgi_temp_path $conf/scgi;
			server { listen 80 backlog=4096; location / { default_type text/plain; return 200 "$ip\n"; } }
		}
	EOF
	ip netns exec "$ns" nginx -c "$conf/nginx.conf" -p "$conf"
}

# endpoints ADDRESS...: replace the Service's EndpointSlice, as one atomic step.
endpoints() {
	{
		sed '/^endpoints:/,$d' "$root/manifests/nginx-demo/as-stored/endpointslice.yaml"
		echo "endpoints:"
		for ip in "$@"; do
			printf '  - addresses: [%s]\n    nodeName: %s\n' "$ip" "${pod_host[$ip]}"
		done
	} >"$dir/.new"
	mv "$dir/.new" "$dir/objects/endpointslice.yaml"
}

start_proxies() {
	for h in "${hosts[@]}"; do
		in_ns "$h" env XTABLES_LOCKFILE="$dir/$h.lock" "$SVCPROXY" -f "$dir/objects" --hostname-override "$h" \
			--cluster-cidr 10.21.0.0/16 --iptables-backend "$backend" -v 2 "${flags[@]}" >"$dir/$h.log" 2>&1 &
	done
	for h in "${hosts[@]}"; do
		for _ in $(seq 100); do
			in_ns "$h" curl -sf -o /dev/null http://127.0.0.1:10256/healthz && continue 2
			sleep 0.1
		done
		echo "lab.sh: svcproxy on $h is not ready; it said:" >&2
		cat "$dir/$h.log" >&2
		return 1
	done
}

up() {
	[ "$(id -u)" -eq 0 ] || { echo "lab.sh: needs root, to make network namespaces" >&2; exit 1; }
	[ -x "$SVCPROXY" ] || { echo "lab.sh: $SVCPROXY is not there: run make build" >&2; exit 1; }
	down
	mkdir -p "$dir/objects"
	ip netns add "$LAB-wire"
	ip -n "$LAB-wire" link add br0 type bridge
	ip -n "$LAB-wire" link set br0 up
	for h in "${hosts[@]}"; do add_host "$h"; done
	for h in "${hosts[@]}"; do peers "$h"; done
	for ip in "${!pod_host[@]}"; do add_pod "$ip"; done
	cp "$root/manifests/nginx-demo/as-stored/service.yaml" "$dir/objects/"
	endpoints 10.21.1.2 10.21.3.2
	start_proxies
}

# down ends what runs in our namespaces and removes them; again does no harm.
down() {
	local ns pids
	for ns in $(ip netns list | awk -v p="$LAB-" 'index($1, p) == 1 { print $1 }'); do
		pids=$(ip netns pids "$ns" || true)
		# shellcheck disable=SC2086
		[ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
		ip netns del "$ns"
	done
	rm -rf "$dir"
}

case ${1:-} in
up | down) "$1" ;;
exec) in_ns "${@:2}" ;;
endpoints | peers) "$1" "${@:2}" ;;
*) echo "usage: lab.sh up | down | exec HOST COMMAND... | endpoints ADDRESS... | peers HOST" >&2; exit 2 ;;
esac
