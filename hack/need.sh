#!/usr/bin/env bash
# Installs, by Debian package name, what the tests and the demo run and this
# machine lacks. Starts no service: a policy-rc.d of its own forbids that while
# packages are set up.
set -euo pipefail

missing=()
need() { # COMMAND PACKAGE
	command -v "$1" >/dev/null || missing+=("$2")
}
PATH=$PATH:/usr/sbin:/sbin
need ip iproute2
need iptables-nft-restore iptables
need nginx nginx-light
need tcpdump tcpdump
need conntrack conntrack
need curl curl
need ps procps
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
