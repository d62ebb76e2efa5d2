#!/usr/bin/env bash
# Tells the story of one Service on real traffic: see README.md.
set -euo pipefail

export LAB=${LAB:-svcproxy-demo}
here=$(cd "$(dirname "$0")" && pwd)
lab=$here/lab.sh
export SVCPROXY=${SVCPROXY:-$here/../../bin/svcproxy}
vip=10.101.231.134
work=$(mktemp -d)
captures=()
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1;36m' plain=$'\e[0m'; fi

finish() {
	local status=$?
	trap - EXIT
	touch "$work/stop"
	wait
	rm -rf "$work"
	if [ -n "${KEEP:-}" ] && [ $status -eq 0 ]; then
		printf '\nThe hosts stay up. Look around:  ip netns exec %s-centos100 curl %s\nEnd it:  LAB=%s hack/lab/lab.sh down\n' "$LAB" "$vip" "$LAB"
	else
		"$lab" down
	fi
	exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
on() { "$lab" exec "$@"; }

step "1. The scene: centos100, 101 and 103 on 192.168.0.0/24, pods on 10.21.0.0/16"
"$lab" up
echo "   nginx runs in pods 10.21.1.2 (centos103) and 10.21.3.2 (centos101); svcproxy on every host."

# trace on centos100, the parts of its output from one heading to another.
told() {
	on centos100 "$SVCPROXY" trace --to ns-test/nginx-service | sed -n "/^$1/,/^$2/p" | sed '$d; s/^/   /'
}

step "2. What the rules on centos100 make of a packet to $vip (svcproxy trace)"
told "nat OUTPUT" "Behind the rules"

step "3. 100 requests from centos100 to $vip"
for _ in $(seq 100); do on centos100 curl -sf --max-time 3 http://$vip; done | sort | uniq -c | sed 's/$/   answered/'

step "4. One request on the wire, as VXLAN (UDP 8472) between the hosts"
for h in 100 103; do
	on centos$h timeout 4 tcpdump -Z root -nn -U -i eth0 udp port 8472 -w "$work/$h" 2>/dev/null &
	captures+=($!)
done
for _ in $(seq 50); do [ -s "$work/100" ] && [ -s "$work/103" ] && break; sleep 0.1; done
for _ in $(seq 40); do
	[ "$(on centos100 curl -sf --max-time 3 http://$vip)" = 10.21.1.2 ] && break
done
wait "${captures[@]}" || true # timeout ends them
for h in 100 103; do
	echo "   eth0 of centos$h:"
	tcpdump -T vxlan -nn -r "$work/$h" 2>/dev/null | grep -A1 'vni 1' | grep -B1 '10.21.0.0.*> 10.21.1.2.80: Flags \[S\]' | head -2 | sed 's/^/     /' | tee "$work/seen"
	[ -s "$work/seen" ] || { echo "   no packet to 10.21.1.2 was seen on centos$h" >&2; exit 1; }
done

step "5. What led it there, behind the rules on centos100 (svcproxy trace)"
told "Behind the rules" "It arrives"

step "6. A third endpoint comes and one goes while requests run"
while [ ! -e "$work/stop" ]; do
	on centos100 curl -sf --max-time 3 http://$vip || echo FAILED
done >"$work/answers" 2>&1 & load=$!
phase() {
	local from
	from=$(wc -l <"$work/answers")
	sleep 2.5
	printf '   %-34s' "$1"
	tail -n +"$((from + 1))" "$work/answers" | sort | uniq -c | awk '{ printf "%s: %s  ", $2, $1 } END { print "" }'
}
phase "two endpoints"
"$lab" endpoints 10.21.0.2 10.21.1.2 10.21.3.2
phase "10.21.0.2 added"
"$lab" endpoints 10.21.0.2 10.21.3.2
phase "10.21.1.2 removed"
touch "$work/stop"
wait $load
total=$(wc -l <"$work/answers")
failed=$(grep -c FAILED "$work/answers" || true)
echo "   $total requests, $failed failed"
[ "$failed" -eq 0 ] && [ "$total" -gt 0 ]
for ip in 10.21.0.2 10.21.1.2 10.21.3.2; do grep -q "$ip" "$work/answers"; done
