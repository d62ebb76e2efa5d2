#!/usr/bin/env bash
# Tells the story of one Service on a real cluster (cluster.sh up): two nginx pods
# behind 10.101.231.134, from every host and from pods; scaled and restarted while
# requests run; one request on the wire. Fails if one request fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cluster=$here/cluster.sh
demo=$here/../../manifests/nginx-demo
vip=10.101.231.134
svc=KUBE-SVC-CMGMSCGHDBTF4CTN
work=$(mktemp -d)
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1;36m' plain=$'\e[0m'; fi

step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
on() { "$cluster" enter "$@"; }
kubectl() { "$cluster" kubectl -n ns-test "$@"; }
indent() { sed 's/^/   /'; }
fail() { echo "   $*" >&2; exit 1; }

finish() {
	local status=$?
	trap - EXIT
	touch "$work/stop"
	wait
	[ $status -eq 0 ] || on centos100 'sh demo/remove.sh' >/dev/null 2>&1 || true
	rm -rf "$work"
	exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mapfile -t hosts < <("$here/machines.sh" list | awk '$3 == "on" { print $1 }')
[ ${#hosts[@]} -gt 0 ] || fail "no machine runs: make cluster"

step "1. The cluster"
"$cluster" kubectl get nodes -o wide | cut -c1-110 | indent

step "2. Two nginx pods and a Service, as anyone would: start.sh on centos100"
tar -C "$demo/.." -cf - nginx-demo | on centos100 'rm -rf demo && mkdir demo && tar -xf - -C demo --strip-components 1'
on centos100 'sh demo/start.sh fixed-ip' >"$work/page"
sed '/<!DOCTYPE/,$d' "$work/page" | indent
kubectl get pods -o wide | cut -c1-90 | indent

# The backend that svcproxy chose there.
ipt=iptables-nft
on centos100 'iptables-nft-save -t nat 2>/dev/null | grep -q KUBE-SVC' || ipt=iptables-legacy
step "3. The rules on centos100 ($ipt-save -t nat)"
on centos100 "$ipt-save -t nat" | grep -E "$vip|ns-test/nginx-service|-A $svc" | indent

step "4. 40 requests from each host, 20 from each pod; who answered stands in nginx's log"
mark=demo-$$
for h in "${hosts[@]}"; do
	on "$h" "for i in \$(seq 40); do curl -sf -o /dev/null --max-time 5 -A $mark http://$vip || echo FAILED; done" >"$work/failed"
	[ ! -s "$work/failed" ] || fail "$h: $(wc -l <"$work/failed") of 40 requests failed"
done
for pod in $(kubectl get pods -o name); do
	kubectl exec "$pod" -- sh -c "for i in \$(seq 20); do curl -sf -o /dev/null --max-time 5 -A $mark http://$vip || echo FAILED; done" >"$work/failed"
	[ ! -s "$work/failed" ] || fail "$pod: $(wc -l <"$work/failed") of 20 requests failed"
done
total=0
for pod in $(kubectl get pods -o name); do
	n=$(kubectl logs "$pod" | grep -c "$mark" || true)
	total=$((total + n))
	printf '   %-45s answered %d\n' "$pod" "$n"
	[ "$n" -gt 0 ] || fail "$pod answered nothing"
done
[ $total -eq $((40 * ${#hosts[@]} + 40)) ] || fail "$total requests were logged"

if on centos100 ip link show flannel.1 >/dev/null 2>&1; then
	step "5. One request on the wire, as VXLAN (UDP 8472)"
	remote=$(kubectl get pods -o 'jsonpath={range .items[*]}{.spec.nodeName}{" "}{.status.podIP}{"\n"}{end}' | awk '$1 != "centos100" { print $2; exit }')
	on centos100 "timeout 8 tcpdump -nn -U -i eth0 -w /tmp/demo.pcap udp port 8472 2>/dev/null & sleep 1
		for i in \$(seq 30); do curl -sf -o /dev/null --max-time 5 http://$vip; done; sleep 1; kill %1; wait
		tcpdump -T vxlan -nn -r /tmp/demo.pcap 2>/dev/null; rm /tmp/demo.pcap" >"$work/wire"
	grep -A1 'vni 1' "$work/wire" | grep -B1 "10\.21\.0\.0\.[0-9]* > $remote\.80: Flags \[S\]" | head -2 | indent | tee "$work/seen"
	[ -s "$work/seen" ] || fail "no packet 10.21.0.0 > $remote:80 was seen"
	on centos100 "ip route get $remote; ip neigh show dev flannel.1; bridge fdb show dev flannel.1" | indent
fi

step "6. Scaled to 5 and back, and restarted pod by pod, while requests run"
while [ ! -e "$work/stop" ]; do
	on centos100 "for i in \$(seq 100); do curl -sf -o /dev/null --max-time 5 http://$vip && echo ok || echo FAILED; done"
done >"$work/answers" & load=$!
rollout() {
	kubectl rollout status deployment/nginx-deployment --timeout 180s >/dev/null
	printf '   %-28s %5d requests so far, %d failed\n' "$1" "$(wc -l <"$work/answers")" "$(grep -c FAILED "$work/answers" || true)"
}
kubectl scale deployment/nginx-deployment --replicas 5 >/dev/null
rollout "5 pods"
kubectl scale deployment/nginx-deployment --replicas 2 >/dev/null
sleep 6 # until those that go have gone
rollout "2 pods"
kubectl rollout restart deployment/nginx-deployment >/dev/null
rollout "restarted"
sleep 6
touch "$work/stop"
wait $load
failed=$(grep -c FAILED "$work/answers" || true)
echo "   $(wc -l <"$work/answers") requests, $failed failed"
[ "$failed" -eq 0 ] && [ -s "$work/answers" ]

step "7. remove.sh: no rule of it is left"
on centos100 'sh demo/remove.sh' | indent
sleep 2
for h in "${hosts[@]}"; do
	left=$(on "$h" "$ipt-save" | grep -c -e 'ns-test/nginx-service' -e "$vip" || true)
	echo "   $h: $left rules"
	[ "$left" -eq 0 ]
done
