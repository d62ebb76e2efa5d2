#!/usr/bin/env bash
# Builds what the cluster runs besides Kubernetes and etcd: CoreDNS, flannel, its
# CNI plugin and pause, each once, into the user's cache. Prints the folder.
set -euo pipefail
cd "$(dirname "$0")/programs"

flannel=v0.28.10
coredns=$(awk '$1 == "github.com/coredns/coredns" || $2 == "github.com/coredns/coredns" { print $NF; exit }' coredns/go.mod)
out=${XDG_CACHE_HOME:-$HOME/.cache}/svcproxy/programs-coredns-$coredns-flannel-$flannel
mkdir -p "$out"
work=$(mktemp -d "$out/.work.XXXX")
trap 'rm -rf "$work"' EXIT

build() { # FOLDER NAME ARGUMENTS OF GO BUILD...
	(cd "$1" && CGO_ENABLED=0 go build -trimpath -o "$work/$2" "${@:3}") >&2
}

# flannel has backends that need cgo (udp) or a library that is not to be had
# everywhere (tencentvpc); it is built from a copy that does not import them.
flanneld() {
	local dir
	mkdir "$work/src"
	printf 'module none\ngo 1.26\n' >"$work/src/go.mod"
	dir=$(cd "$work/src" && go mod download -json "github.com/flannel-io/flannel@$flannel" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	cp -r "$dir" "$work/src/flannel"
	chmod -R u+w "$work/src"
	sed -i '/pkg\/backend\/\(udp\|tencentvpc\)"/d' "$work/src/flannel/main.go"
	build "$work/src/flannel" flanneld -ldflags "-s -w -X github.com/flannel-io/flannel/pkg/version.Version=$flannel" .
}

coredns() { build coredns coredns -ldflags "-s -w" .; }
flannel() { build cni flannel -ldflags "-s -w" github.com/containernetworking/plugins/plugins/meta/flannel; }
pause() { cc -static -Os -s -o "$work/pause" pause.c; }

for name in coredns flanneld flannel pause; do
	[ -x "$out/$name" ] && continue
	echo "building $name" >&2
	"$name"
	mv "$work/$name" "$out/$name"
done
echo "$out"
