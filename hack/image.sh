#!/usr/bin/env bash
# Builds the image of svcproxy with buildah, without a daemon, and writes it to
# bin/svcproxy.oci.tar, an OCI archive:
#
#   skopeo copy oci-archive:bin/svcproxy.oci.tar docker://registry.example.org/svcproxy:v1
#
# Needs root.
set -euo pipefail
# shellcheck source=hack/buildah.sh
. "$(dirname "$0")/buildah.sh"
cd "$(dirname "$0")/.."

image=svcproxy:latest
out=bin/svcproxy.oci.tar
[ -x bin/svcproxy ] || { echo "image.sh: bin/svcproxy is missing: run make build" >&2; exit 1; }

# try_image runs what the image must have: the program and both backends.
try_image() {
	local container tool
	container=$(run from --pull-never "$image")
	for tool in svcproxy iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do
		run run "$container" "$tool" --version >/dev/null || { echo "image.sh: $tool does not run in the image" >&2; exit 1; }
	done
	run rm "$container" >/dev/null
}

ensure_base
build "$image" Dockerfile .
try_image
rm -f "$out"
run push --quiet "$image" "oci-archive:$out:$image" >/dev/null
echo "$out: $(du -h "$out" | cut -f1) compressed"
