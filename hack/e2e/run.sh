#!/usr/bin/env bash
# Runs upstream's own end-to-end tests of services against a cluster, and keeps
# what came of them in the user's cache for the table in docs/conformance.md.
#
#   KUBECONFIG=FILE PROXY=svcproxy|kube-proxy CNI=flannel|bridge run.sh [SUITE...]
#
# PROXY is the service proxy that the cluster runs, which is looked at, and CNI its
# pod network; SUITE is services or proxy, by default both. PROCS tests run at a
# time (6). FOCUS narrows a suite to the tests that it matches, and keeps nothing.
# The tests talk to the API server alone; all traffic is between pods and nodes.
# The exit status says whether every test passed.
set -euo pipefail
cd "$(dirname "$0")"

: "${KUBECONFIG:?must be set}" "${PROXY:?must be svcproxy or kube-proxy}" "${CNI:?must be flannel or bridge}"
KUBECONFIG=$(readlink -f "$KUBECONFIG")
export KUBECONFIG

# focus SUITE: the first is upstream's group for services; the second is what else
# of [sig-network] needs the service proxy or would notice if it broke pods' traffic.
focus() {
	case $1 in
	services) echo '\[sig-network\] Services ' ;;
	proxy)
		local groups="Conntrack|KubeProxy|Networking|Traffic Distribution|Topology Hints|HostPort"
		groups+="|Service endpoints latency|Service CIDRs|Connectivity Pod Lifecycle|NoSNAT"
		echo "\[sig-network\] (($groups) |EndpointSlice should support a Service with multiple|DNS should provide DNS for services)"
		;;
	*) echo "run.sh: no suite $1: services or proxy" >&2; exit 2 ;;
	esac
}
# What would restart parts of the cluster, needs the machine for itself, or needs
# a cloud or a setting that an ordinary cluster lacks.
skip='\[(Disruptive|Serial|Slow)\]|\[Feature:'

[ $# -gt 0 ] || set -- services proxy
for suite in "$@"; do focus "$suite" >/dev/null; done

bin=$(../kubernetes/build.sh e2e.test ginkgo kubectl)
kubectl=$bin/kubectl
out=${XDG_CACHE_HOME:-$HOME/.cache}/svcproxy/e2e-results/$PROXY-$CNI
[ -z "${FOCUS:-}" ] || out=$(mktemp -d)
mkdir -p "$out"

# The cluster must run the proxy that the results will be about, and no other.
other=kube-proxy
[ "$PROXY" = svcproxy ] || other=svcproxy
version=$("$kubectl" --namespace kube-system exec "daemonset/$PROXY" -- "$PROXY" --version)
if "$kubectl" --namespace kube-system get daemonset "$other" >/dev/null 2>&1; then
	echo "run.sh: the cluster runs $other too" >&2
	exit 1
fi

# Tests of topology want zones: every node is one, unless it has one.
for node in $("$kubectl" get nodes --selector '!topology.kubernetes.io/zone' --output name); do
	"$kubectl" label "$node" "topology.kubernetes.io/zone=${node#node/}" >/dev/null
done
"$kubectl" wait --for condition=Ready --timeout 120s nodes --all >/dev/null

{
	echo "proxy: $PROXY ${version##* }"
	echo "tests: e2e.test $("$bin/e2e.test" --version)"
	"$kubectl" version --output yaml | sed -n '/^serverVersion:/,$s/^  gitVersion: /cluster: Kubernetes /p'
	"$kubectl" get nodes --output jsonpath='nodes: {.items[*].metadata.name}{"\n"}system: {.items[0].status.nodeInfo.osImage}, Linux {.items[0].status.nodeInfo.kernelVersion}, {.items[0].status.nodeInfo.containerRuntimeVersion}{"\n"}'
	echo "date: $(date -u +%Y-%m-%d)"
} >"$out/about"
cat "$out/about"

status=0
for suite in "$@"; do
	rm -f "$out/$suite".*
	"$bin/ginkgo" run --procs="${PROCS:-6}" --timeout=2h --no-color --silence-skips --keep-going \
		--focus="$(focus "$suite")${FOCUS:+.*(${FOCUS})}" --skip="$skip" \
		--output-dir="$out" --junit-report="$suite.xml" --json-report="$suite.json" \
		"$bin/e2e.test" -- --provider=skeleton --kubeconfig="$KUBECONFIG" --kubectl-path="$kubectl" \
		--num-nodes="$("$kubectl" get nodes --selector '!node-role.kubernetes.io/control-plane' --output name | wc -l)" \
		>"$out/$suite.log" 2>&1 || status=1
	echo "$suite: $(grep -E '^(SUCCESS|FAIL)! --|^Ran [0-9]+ of' "$out/$suite.log" | paste -sd ' ')"
	sed -n '/^Summarizing/,/^Ran /{/^  \[/p}' "$out/$suite.log"
done
echo "$out"
exit $status
