#!/usr/bin/env bash
# Installs, by Debian package name, what this machine lacks. Starts no service: a
# policy-rc.d of its own forbids that while packages are set up.
#
#   need.sh           what the tests and the demo run
#   need.sh check     what the static checks run
#   need.sh image     what builds the image
#   need.sh cluster   what builds and runs a cluster
#   need.sh bench     what the bench runs
set -euo pipefail

missing=()
need() { # COMMAND PACKAGE
	command -v "$1" >/dev/null || missing+=("$2")
}
PATH=$PATH:/usr/sbin:/sbin
image() {
	need buildah buildah
	need mmdebstrap mmdebstrap
}
playbooks() {
	need ansible-playbook ansible
	need ansible-lint ansible-lint
	need yamllint yamllint
	need shellcheck shellcheck
}
case ${1:-test} in
test)
	need ip iproute2
	need iptables-nft-restore iptables
	need nft nftables
	need nginx nginx-light
	need tcpdump tcpdump
	need conntrack conntrack
	need runc runc
	need curl curl
	need ps procps
	need chromium chromium
	playbooks
	;;
check) playbooks ;;
image) image ;;
bench)
	need ip iproute2
	need iptables-nft-restore iptables
	need nft nftables
	;;
cluster)
	image
	playbooks
	need ip iproute2
	need nft nftables
	need tcpdump tcpdump
	need curl curl
	need ssh openssh-client
	need cc gcc
	need depmod kmod
	[ -e /usr/lib/x86_64-linux-gnu/libc.a ] || missing+=(libc6-dev)
	;;
*) echo "need.sh: unknown: $1" >&2; exit 2 ;;
esac
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
	echo "need.sh: missing: ${missing[*]}: install them, or run this as root on Debian or Ubuntu" >&2
	exit 1
fi
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || {
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${missing[@]}"
}
