#!/usr/bin/env bash
# Makes Debian packages of kubelet, kubeadm and kubectl from the built programs,
# as the project's own are: unit file, kubeadm's drop-in and all. They go into a
# flat apt repository in the user's cache, whose folder is printed.
set -euo pipefail
cd "$(dirname "$0")"

bin=$(../kubernetes/build.sh kubelet kubeadm kubectl)
out=${XDG_CACHE_HOME:-$HOME/.cache}/svcproxy/packages
version=$("$bin/kubelet" --version | sed 's/.* v//')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# package NAME DEPENDS DESCRIPTION
package() {
	local root=$work/$1 deb=$out/$1_$version-1_amd64.deb
	[ "$deb" -nt "$bin/$1" ] && return
	install -D -m 755 "$bin/$1" "$root/usr/bin/$1"
	[ ! -d "packages/$1" ] || cp -r "packages/$1/." "$root/"
	mkdir -p "$root/DEBIAN"
	cat >"$root/DEBIAN/control" <<-EOF
		Package: $1
		Version: $version-1
		Architecture: amd64
		Maintainer: svcproxy
		Depends: $2
		Description: $3
	EOF
	dpkg-deb --root-owner-group -Zzstd -z1 --build "$root" "$deb" >/dev/null
}

mkdir -p "$out"
package kubelet "iptables, iproute2, mount, util-linux" "the agent of Kubernetes on every node"
package kubeadm "kubelet, kubectl" "sets up a Kubernetes cluster"
package kubectl "libc6" "talks to a Kubernetes cluster"
(
	cd "$out"
	for deb in *.deb; do
		dpkg-deb --field "$deb"
		printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
	done >.Packages
	mv .Packages Packages
)
echo "$out"
