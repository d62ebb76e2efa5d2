#!/usr/bin/env bash
# Machines on this machine: Debian with systemd and sshd, each in namespaces and
# cgroups of its own, on a wire of their own, 192.168.0.0/24. Nothing of the outer
# machine's network, mounts or sysctls changes.
#
#   machines.sh up [NAME...]       make and boot them; those that run stay (default: centos100 to centos103)
#   machines.sh ssh NAME [COMMAND] enter one, by ssh
#   machines.sh off NAME...        cut the power
#   machines.sh boot NAME...       boot again, with the disk as it was
#   machines.sh down               end all and remove their disks; the base stays in the cache
#   machines.sh pause | resume     stop everything where it is, and go on
#   machines.sh list               name, address and state of each
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
prefix=${CLUSTER_NAME:-svcproxy-cluster}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/svcproxy
state=$cache/$prefix
freezer=/sys/fs/cgroup/freezer/$prefix/freezer.state

say() { printf '%4ds %s\n' "$SECONDS" "$*"; }
die() { echo "machines.sh: $*" >&2; exit 1; }
address() { echo "192.168.0.${1//[!0-9]/}"; }
runs() { [ -s "$state/$1.pid" ] && [ -d "/proc/$(<"$state/$1.pid")" ]; }

# check_names: the digits of a name are the end of its address.
check_names() {
	local name
	for name in "$@"; do
		[[ $name =~ ^[a-z]+[0-9]{1,3}$ ]] && ((10#${name//[!0-9]/} > 1 && 10#${name//[!0-9]/} < 255)) ||
			die "'$name' is no name of a machine: letters, then a number from 2 to 254, as centos100"
	done
}

need() {
	[ "$(id -u)" -eq 0 ] || die "needs root, to make namespaces"
	local tool free
	for tool in mmdebstrap ip unshare nsenter ssh-keygen; do
		command -v $tool >/dev/null || die "$tool is missing: apt-get install mmdebstrap iproute2 util-linux openssh-client"
	done
	mkdir -p "$state"
	free=$(df --output=avail -m "$state" | tail -1)
	[ "$free" -gt 12000 ] || die "$state has $free MB of disk free; four machines need 12000"
	free=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
	[ "$free" -gt 6000 ] || die "$free MB of memory are free; four machines need 6000"
	if [ -e "/run/netns/$prefix-wire" ] && [ ! -f "$state/key" ]; then
		die "the namespace $prefix-wire is taken by somebody else: choose another name, CLUSTER_NAME=name"
	fi
}

make_wire() {
	[ -e "/run/netns/$prefix-wire" ] && return
	ip netns add "$prefix-wire"
	ip -n "$prefix-wire" -batch - <<-EOF
		link set lo up
		link add br0 type bridge
		addr add 192.168.0.1/24 dev br0
		link set br0 up
	EOF
	[ -f "$state/key" ] || ssh-keygen -q -t ed25519 -N '' -C "$prefix" -f "$state/key"
}

# make_disk NAME: copy the base and say who the machine is. Images are most of it
# and nobody writes into their files, so these are links.
make_disk() {
	local root=$state/$1 base images
	[ -e "$root/etc/ready" ] && return
	base=$("$here/base.sh")
	rm -rf "$root"
	mkdir -p "$root"
	for images in io.containerd.content.v1.content/blobs io.containerd.snapshotter.v1.overlayfs/snapshots; do
		images=var/lib/containerd/$images
		[ -d "$base/$images" ] || continue
		mkdir -p "$root/${images%/*}"
		cp -al "$base/$images" "$root/$images"
	done
	cp -a --no-clobber "$base/." "$root/"
	mkdir -p "$root/root/.ssh"
	echo "$1" >"$root/etc/hostname"
	printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
	for host in centos100 centos101 centos102 centos103; do echo "$(address $host) $host"; done >>"$root/etc/hosts"
	cp "$state/key.pub" "$root/root/.ssh/authorized_keys"
	chmod 700 "$root/root/.ssh"
	ssh-keygen -q -A -f "$root" >/dev/null
	sed "s|^|$1,$(address "$1") |" "$root/etc/ssh/ssh_host_ed25519_key.pub" >>"$state/known_hosts"
	touch "$root/etc/ready"
}

# plug NAME: the machine's network, on the wire.
plug() {
	local ns=$prefix-$1 port=${1//[!0-9]/}
	ip -n "$ns" link show eth0 >/dev/null 2>&1 && return
	[ -e "/run/netns/$ns" ] || ip netns add "$ns"
	ip -n "$prefix-wire" link add "p$port" type veth peer name eth0 netns "$ns"
	ip -n "$prefix-wire" link set "p$port" master br0 up
	ip -n "$ns" -batch - <<-EOF
		link set lo up
		link set eth0 up
		addr add $(address "$1")/24 dev eth0
		route add default via 192.168.0.1
	EOF
}

# boot NAME: start systemd in namespaces and cgroups of the machine's own.
boot() {
	runs "$1" && return
	[ -e "$state/$1/etc/ready" ] || die "there is no machine $1: run machines.sh up $1"
	plug "$1"
	local h
	for h in /sys/fs/cgroup/*/; do mkdir -p "$h$prefix/$1"; done
	for f in cpus mems; do # a new cpuset has none, and takes no process
		cat "/sys/fs/cgroup/cpuset/cpuset.$f" >"/sys/fs/cgroup/cpuset/$prefix/cpuset.$f"
		cat "/sys/fs/cgroup/cpuset/cpuset.$f" >"/sys/fs/cgroup/cpuset/$prefix/$1/cpuset.$f"
	done
	echo 1 >"/sys/fs/cgroup/cpuset/$prefix/$1/cgroup.clone_children"
	# shellcheck disable=SC2016 # the inner shell expands it
	setsid bash -c '
		for h in /sys/fs/cgroup/*/; do echo $$ >"$h$1/cgroup.procs"; done
		echo $$ >"$4"
		exec nsenter --net="/run/netns/$2" unshare --mount --uts --ipc --pid --cgroup --fork --kill-child "$3" "$5"
	' - "$prefix/$1" "$prefix-$1" "$here/machine-init.sh" "$state/$1.pid" "$state/$1" >"$state/$1.log" 2>&1 </dev/null &
	for _ in $(seq 50); do runs "$1" && return; sleep 0.1; done
	die "$1 did not start: see $state/$1.log"
}

enter() { # NAME [COMMAND...]
	runs "$1" || die "$1 does not run: machines.sh up $1"
	remote "$@"
}

remote() { # NAME [COMMAND...]
	ip netns exec "$prefix-wire" ssh -q -i "$state/key" -o UserKnownHostsFile="$state/known_hosts" -o ConnectTimeout=5 "root@$(address "$1")" "${@:2}"
}

wait_ready() {
	for _ in $(seq 300); do
		case $(remote "$1" systemctl is-system-running 2>/dev/null || true) in
		running) return ;;
		degraded) remote "$1" systemctl --failed --no-legend >&2 && die "$1 is degraded, see above" ;;
		esac
		sleep 0.2
	done
	die "$1 did not come up: see $state/$1.log"
}

# freeze STATE: all processes of all machines, where they are.
freeze() {
	[ -e "$freezer" ] || die "no machine runs: machines.sh up"
	echo "$1" >"$freezer"
	until [ "$(<"$freezer")" = "$1" ]; do sleep 0.05; done
}

list() {
	local disk name state_of
	for disk in "$state"/*/etc/ready; do
		[ -e "$disk" ] || continue
		name=${disk%/etc/ready} name=${name##*/}
		state_of=off
		runs "$name" && state_of=$([ "$(<"$freezer")" = THAWED ] && echo on || echo paused)
		printf '%-10s %-15s %s\n' "$name" "$(address "$name")" "$state_of"
	done
}

up() {
	need
	check_names "$@"
	make_wire
	local name
	for name in "$@"; do make_disk "$name"; boot "$name"; done
	say "booted $*"
	for name in "$@"; do wait_ready "$name"; done
	say "all run systemd and answer ssh"
}

# remove_cgroups BELOW: they outlive their processes, unlike those of a real machine.
remove_cgroups() {
	local cgroup
	for cgroup in /sys/fs/cgroup/*/"$1"; do
		[ ! -d "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} \;
	done
}

# off NAME: as if its plug were pulled.
off() {
	if runs "$1"; then
		freeze THAWED # a frozen process does not end
		kill -9 "$(<"$state/$1.pid")"
		while runs "$1"; do sleep 0.05; done
	fi
	rm -f "$state/$1.pid"
	remove_cgroups "$prefix/$1"
	if [ -e "/run/netns/$prefix-$1" ]; then
		# The namespace goes later; its end of the wire would be in the way of a boot.
		ip -n "$prefix-wire" link del "p${1//[!0-9]/}" 2>/dev/null || true
		ip netns del "$prefix-$1"
	fi
}

down() {
	local pidfile
	for pidfile in "$state"/*.pid; do
		[ -e "$pidfile" ] && off "$(basename "$pidfile" .pid)"
	done
	for ns in $(ip netns list | awk -v p="$prefix-" 'index($1, p) == 1 { print $1 }'); do ip netns del "$ns"; done
	remove_cgroups "$prefix"
	rm -rf "$state"
}

case ${1:-} in
up) shift; [ $# -gt 0 ] || set -- centos100 centos101 centos102 centos103; up "$@" ;;
ssh) shift; check_names "${1:-}"; enter "$@" ;;
off | boot) verb=$1; shift; check_names "$@"; for name in "$@"; do "$verb" "$name"; done ;;
down) down ;;
pause) freeze FROZEN ;;
resume) freeze THAWED ;;
list) list ;;
*) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
