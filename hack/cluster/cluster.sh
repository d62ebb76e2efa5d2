#!/usr/bin/env bash
# A Kubernetes cluster on this machine: Debian machines with systemd and sshd in
# namespaces (machines.sh), on which the playbooks of hack/ansible install what
# they install anywhere. Needs root; nothing outside the namespaces changes.
#
#   cluster.sh up                    build what is missing, boot, install; again goes on where it stopped
#   cluster.sh status                machines, nodes and pods
#   cluster.sh enter NAME [COMMAND]  a shell on a machine
#   cluster.sh kubectl ...           kubectl, as the cluster's administrator
#   cluster.sh run COMMAND...        a command on the machines' wire, with KUBECONFIG set
#   cluster.sh off | boot [NAME...]  cut the power, and boot again; all by default
#   cluster.sh load                  build svcproxy as it is in the tree, and roll it out
#   cluster.sh import ARCHIVE...     import images on every machine
#   cluster.sh pause | resume        stop everything where it is, and go on
#   cluster.sh down                  end the machines and remove their disks
#
# NODES=4 (1 to 4), CNI=flannel (or bridge), PROXY=svcproxy (or kube-proxy). Those of
# a cluster that is there are known; up with another PROXY puts it in the old one's place.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

export CLUSTER_NAME=${CLUSTER_NAME:-svcproxy-cluster}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/svcproxy
state=$cache/$CLUSTER_NAME
made=
[ ! -f "$state/made" ] || made=$(<"$state/made")
read -r nodes cni proxy <<<"${made:-4 flannel svcproxy}"
nodes=${NODES:-$nodes} cni=${CNI:-$cni} proxy=${PROXY:-$proxy}
logs=$cache/$CLUSTER_NAME-logs
all=(centos100 centos101 centos102 centos103)

die() { echo "cluster.sh: $*" >&2; exit 1; }
machines() { "$here/machines.sh" "$@"; }

# step TITLE COMMAND...: one line when it begins, its time when it ends, and where
# to read if it fails.
step() {
	local title=$1 log began=$SECONDS
	shift
	log=$logs/${title//[^a-z]/-}.log
	printf '%4ds  %-44s ' "$SECONDS" "$title"
	if ! "$@" >"$log" 2>&1 </dev/null; then
		printf 'failed\n'
		tail -n 5 "$log" >&2
		die "'$title' failed: read $log; cluster.sh up goes on from there"
	fi
	printf '%4ds\n' $((SECONDS - began))
}

check_settings() {
	[[ $nodes =~ ^[1-4]$ ]] || die "NODES=$nodes: from 1 to 4"
	[[ $cni =~ ^(flannel|bridge)$ ]] || die "CNI=$cni: flannel or bridge"
	[[ $proxy =~ ^(svcproxy|kube-proxy)$ ]] || die "PROXY=$proxy: svcproxy or kube-proxy"
	[ "$(id -u)" -eq 0 ] || die "needs root, to make namespaces"
	[ -z "$made" ] || [ "${made% *}" = "$nodes $cni" ] ||
		die "the machines that are there were made with NODES, CNI = ${made% *}: cluster.sh down ends them"
}

# on_wire COMMAND...: where the machines' network is reached.
on_wire() { ip netns exec "$CLUSTER_NAME-wire" "$@"; }

kubectl() {
	[ -f "$state/kubeconfig" ] || die "there is no cluster: cluster.sh up"
	on_wire "$(kubernetes)/kubectl" --kubeconfig "$state/kubeconfig" "$@"
}
kubernetes() { "$here/../kubernetes/build.sh" kubectl; }

playbook() {
	# Connections are kept open by host name, which other clusters have too.
	on_wire env ANSIBLE_CONFIG="$root/hack/ansible/ansible.cfg" ANSIBLE_SSH_CONTROL_PATH_DIR="$state/ssh" ansible-playbook -i "$here/inventory.yaml" \
		--limit "$(IFS=,; echo "${all[*]:0:nodes}")" --private-key "$state/key" \
		--ssh-extra-args "-o UserKnownHostsFile=$state/known_hosts" \
		-e "cni=$cni service_proxy=$proxy" "$root/hack/ansible/$1"
}

fetch_kubeconfig() {
	machines ssh centos100 cat /etc/kubernetes/admin.conf >"$state/kubeconfig.new"
	mv "$state/kubeconfig.new" "$state/kubeconfig"
}

# thaw: a cluster that was paused goes on before anything is asked of it.
thaw() { if machines list | grep -q paused; then machines resume; fi; }

up() {
	check_settings
	mkdir -p "$logs"
	trap 'echo; echo "cluster.sh: stopped; cluster.sh up goes on, cluster.sh down ends it" >&2; exit 130' INT TERM
	step "install packages of this machine" "$root/hack/need.sh" cluster
	step "build svcproxy" make -C "$root" build
	step "build Kubernetes" "$here/../kubernetes/build.sh" etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubeadm kubectl
	step "build the rest of the programs" "$here/programs.sh"
	step "make the disk with packages and images" "$here/base.sh" kubernetes
	thaw
	step "boot the machines" machines up "${all[@]:0:nodes}"
	step "import newer images" import "$cache"/images/*.tar
	echo "$nodes $cni $proxy" >"$state/made"
	step "prepare the hosts: init.yaml" playbook init.yaml
	step "install the cluster: install.yaml" playbook install.yaml
	fetch_kubeconfig
	kubectl get nodes
}

# import ARCHIVE...: what a running machine has not imported yet, on all of them.
import() {
	local names name pids=() pid
	mapfile -t names < <(machines list | awk '$3 == "on" { print $1 }')
	[ ${#names[@]} -gt 0 ] || die "no machine runs: cluster.sh up"
	for name in "${names[@]}"; do
		import_on "$name" "$@" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid" || return 1; done
}

import_on() { # NAME ARCHIVE...
	local name=$1 archive disk=$state/$1 stamp
	for archive in "${@:2}"; do
		stamp=$disk/var/lib/containerd/.imported/${archive##*/}
		[ "$stamp" -nt "$archive" ] && continue
		ln -f "$archive" "$disk/var/lib/cluster/import.tar"
		machines ssh "$name" ctr -n k8s.io images import /var/lib/cluster/import.tar || return 1
		touch "$stamp"
	done
	rm -f "$disk/var/lib/cluster/import.tar"
}

roll_out() {
	kubectl -n kube-system rollout restart daemonset svcproxy &&
		kubectl -n kube-system rollout status daemonset svcproxy --timeout 120s
}

# load: the tree's svcproxy on every machine; its pods are started again with it.
load() {
	mkdir -p "$logs"
	step "build svcproxy" make -C "$root" build
	step "build its image" "$here/images.sh" svcproxy
	step "import the image on every machine" import "$cache/images/docker.io_library_svcproxy_latest.tar"
	step "roll it out" roll_out
}

status() {
	machines list
	! machines list | grep -q ' on$' || { kubectl get nodes -o wide; kubectl get pods -A -o wide; }
}

# named NAMES... or all machines there are.
named() {
	[ $# -gt 0 ] || mapfile -t names < <(machines list | awk '{ print $1 }')
	[ $# -eq 0 ] || names=("$@")
	[ ${#names[@]} -gt 0 ] || die "there are no machines: cluster.sh up"
}

case ${1:-} in
up | load | status) "$1" ;;
import) import "${@:2}" ;;
enter) machines ssh "${@:2}" ;;
kubectl) kubectl "${@:2}" ;;
run) on_wire env KUBECONFIG="$state/kubeconfig" PROXY="$proxy" CNI="$cni" PATH="$(kubernetes):$PATH" "${@:2}" ;;
off | boot) named "${@:2}"; machines "$1" "${names[@]}" ;;
pause | resume) machines "$1" ;;
down) machines down; rm -rf "$logs" ;;
*) sed -n '2,19s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
