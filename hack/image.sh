#!/usr/bin/env bash
# Builds the image of svcproxy with buildah, without a daemon, and writes it to
# bin/svcproxy.oci.tar, an OCI archive:
#
#   skopeo copy oci-archive:bin/svcproxy.oci.tar docker://registry.example.org/svcproxy:v1
#
# The base is debian:bookworm-slim from a registry or, where none is reached, one
# made by mmdebstrap from this machine's package sources. Everything is kept in
# the user's cache, apart from the machine's own images. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

# What buildah mounts goes away with a mount namespace.
if [ "${IMAGE_SH_INSIDE:-}" != 1 ]; then
	exec unshare --mount env IMAGE_SH_INSIDE=1 hack/image.sh
fi

cache=${XDG_CACHE_HOME:-$HOME/.cache}/svcproxy/image
base=docker.io/library/debian:bookworm-slim
image=svcproxy:latest
out=bin/svcproxy.oci.tar
export BUILDAH_ISOLATION=chroot

for tool in buildah mmdebstrap; do
	command -v "$tool" >/dev/null || { echo "image.sh: $tool is missing: apt-get install $tool" >&2; exit 1; }
done
[ -x bin/svcproxy ] || { echo "image.sh: bin/svcproxy is missing: run make build" >&2; exit 1; }
mkdir -p "$cache"

run() { buildah --root "$cache/images" --runroot "$cache/run" "$@"; }

# make_base makes the base image from Debian packages.
make_base() {
	local tar=$cache/base.tar container
	mmdebstrap --quiet --variant=minbase bookworm "$tar"
	container=$(run from scratch)
	run add --quiet "$container" "$tar" / >/dev/null
	run commit --quiet "$container" "$base" >/dev/null
	run rm "$container" >/dev/null
	rm -f "$tar"
}

# try_image runs what the image must have: the program and both backends.
try_image() {
	local container tool
	container=$(run from --pull-never "$image")
	for tool in svcproxy iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do
		run run "$container" "$tool" --version >/dev/null || { echo "image.sh: $tool does not run in the image" >&2; exit 1; }
	done
	run rm "$container" >/dev/null
}

if ! run inspect --type image "$base" >/dev/null 2>&1; then
	timeout 30 buildah --root "$cache/images" --runroot "$cache/run" pull --quiet "$base" >/dev/null 2>&1 || make_base
fi
run build --quiet --layers --pull-never --tag "$image" . >/dev/null
try_image
rm -f "$out"
run push --quiet "$image" "oci-archive:$out:$image" >/dev/null
echo "$out: $(du -h "$out" | cut -f1) compressed"
