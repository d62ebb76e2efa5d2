# shellcheck shell=bash
# Sourced by the scripts that build images: buildah without a daemon or a
# registry, with its storage in the user's cache, apart from the machine's own
# images. What it mounts goes away with a mount namespace; needs root.

if [ "${BUILDAH_INSIDE:-}" != 1 ]; then
	exec unshare --mount env BUILDAH_INSIDE=1 "$(readlink -f "$0")" "$@"
fi

export BUILDAH_ISOLATION=chroot
cache=${XDG_CACHE_HOME:-$HOME/.cache}/svcproxy
base=docker.io/library/debian:bookworm-slim

for tool in buildah mmdebstrap; do
	command -v "$tool" >/dev/null || { echo "${0##*/}: $tool is missing: apt-get install $tool" >&2; exit 1; }
done

run() { buildah --root "$cache/image/images" --runroot "$cache/image/run" "$@"; }

# make_base makes the base image from this machine's package sources.
make_base() {
	local tar=$cache/image/base.tar container
	mmdebstrap --quiet --variant=minbase bookworm "$tar"
	container=$(run from scratch)
	run add --quiet "$container" "$tar" / >/dev/null
	run commit --quiet "$container" "$base" >/dev/null
	run rm "$container" >/dev/null
	rm -f "$tar"
}

# ensure_base gets debian:bookworm-slim from a registry or, where none is
# reached, makes it.
ensure_base() {
	run inspect --type image "$base" >/dev/null 2>&1 && return
	mkdir -p "$cache/image"
	timeout 30 buildah --root "$cache/image/images" --runroot "$cache/image/run" pull --quiet "$base" >/dev/null 2>&1 || make_base
}

# build NAME DOCKERFILE FOLDER [OPTION...]: an image of what the folder holds.
build() {
	run build --quiet --layers --pull-never --tag "$1" --file "$2" "${@:4}" "$3" >/dev/null
}
