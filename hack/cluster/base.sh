#!/usr/bin/env bash
# Makes the disk that all machines start from, in the user's cache: Debian, the
# packages of Kubernetes, and the images that a cluster runs. What is there
# already is not made again. Prints the folder. Needs root.
#
#   base.sh              Debian alone
#   base.sh kubernetes   and all that a cluster needs
set -euo pipefail
cd "$(dirname "$0")"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/svcproxy
base=$cache/base
log=$cache/base.log
packages=systemd,systemd-sysv,dbus,openssh-server,iproute2,iptables,procps,kmod,curl,conntrack,python3-minimal,python3-apt
packages+=,ca-certificates,iputils-ping,ethtool,socat,containerd,runc,containernetworking-plugins,sudo,less,tcpdump

die() { echo "base.sh: $*" >&2; exit 1; }

debian() {
	[ -d "$base" ] && return
	mkdir -p "$cache"
	rm -rf "$base.new"
	mmdebstrap --quiet --variant=minbase --include=$packages bookworm "$base.new" 2>"$log" ||
		die "Debian could not be set up: see $log"
	# What would set the clock, wait for hardware or look for updates.
	local unit
	for unit in systemd-timesyncd.service fstrim.timer apt-daily.timer apt-daily-upgrade.timer getty.target console-getty.service \
		proc-sys-fs-binfmt_misc.automount dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
		systemd-random-seed.service systemd-udevd.service systemd-modules-load.service; do
		ln -sf /dev/null "$base.new/etc/systemd/system/$unit"
	done
	rm -rf "$base.new"/dev/* "$base.new"/etc/ssh/ssh_host_*
	: >"$base.new/etc/machine-id"
	: >"$base.new/etc/apt/sources.list"
	# The kernel has these built in; modprobe shall know.
	local modules
	modules=$base.new/lib/modules/$(uname -r)
	mkdir -p "$modules"
	printf 'kernel/fs/overlayfs/overlay.ko\nkernel/net/bridge/br_netfilter.ko\n' >"$modules/modules.builtin"
	: >"$modules/modules.order"
	chroot "$base.new" depmod "$(uname -r)"
	mv "$base.new" "$base"
}

# newer_archives lists the archives that the base has not imported yet.
newer_archives() {
	local archive
	for archive in "$1"/*.tar; do
		[ "$base/var/lib/containerd/.imported/${archive##*/}" -nt "$archive" ] || echo "$archive"
	done
}

# import ARCHIVE...: into the base's containerd, which runs for that alone, in
# namespaces that end with it.
import() {
	# shellcheck disable=SC2016 # the inner shell expands it
	unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc="$base/proc" bash -euc '
		base=$1
		shift
		mount -t tmpfs tmpfs "$base/run"
		mount -t tmpfs tmpfs "$base/dev"
		for node in null zero urandom; do touch "$base/dev/$node"; mount --bind "/dev/$node" "$base/dev/$node"; done
		mkdir -p "$base/var/lib/containerd/.imported"
		chroot "$base" containerd &
		for _ in $(seq 100); do chroot "$base" ctr version >/dev/null 2>&1 && break; sleep 0.1; done
		for archive in "$@"; do
			chroot "$base" ctr -n k8s.io images import --snapshotter overlayfs - <"$archive"
			touch "$base/var/lib/containerd/.imported/${archive##*/}"
		done
		kill %1
		wait
	' - "$base" "$@" >>"$log" 2>&1 || die "the images could not be imported: see $log"
}

[ "$(id -u)" -eq 0 ] || die "needs root, to set up Debian"
debian
if [ "${1:-}" = kubernetes ]; then
	rm -rf "$base/var/lib/cluster/packages"
	mkdir -p "$base/var/lib/cluster"
	cp -r "$(./packages.sh)" "$base/var/lib/cluster/packages"
	mapfile -t archives < <(newer_archives "$(./images.sh)")
	[ ${#archives[@]} -eq 0 ] || import "${archives[@]}"
fi
echo "$base"
