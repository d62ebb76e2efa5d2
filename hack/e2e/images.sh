#!/usr/bin/env bash
# Builds, under upstream's names, the images that its end-to-end tests of services
# want, and writes them all into one archive in the user's cache, the layers that
# they share once: a cluster that reaches no registry imports it. Built again when
# what it is made of is newer. Prints the folder. Needs root.
set -euo pipefail
# shellcheck source=hack/buildah.sh
. "$(dirname "$0")/../buildah.sh"
cd "$(dirname "$0")"

targets=(agnhost distroless-iptables glibc-dns-testing busybox regression-issue-74839)
bin=$(../kubernetes/build.sh e2e.test agnhost regression-issue-74839)
out=$cache/e2e-images
archive=$out/e2e.tar

# name_of TARGET: the name and tag that this e2e.test asks for. Other tags of
# agnhost and busybox stand in the list before it, for other tests.
name_of() { sort -V "$work/names" | sed -n "s|^.*/$1:.*|&|p" | tail -1; }

# try_images runs what the tests run in the images.
try_images() {
	local container tool
	container=$(run from --pull-never "$(name_of agnhost)")
	for tool in "/agnhost --help" "curl --version" "wget --version" "dig -v" "ss --version" "iptables --version" "conntrack --version" "which nc"; do
		# shellcheck disable=SC2086 # a command and its argument
		run run "$container" $tool >/dev/null 2>&1 || { echo "images.sh: $tool does not run in agnhost" >&2; exit 1; }
	done
	run rm "$container" >/dev/null
	container=$(run from --pull-never "$(name_of busybox)")
	run run "$container" /bin/sh -c "sleep 0 && nc --help" >/dev/null 2>&1 || { echo "images.sh: busybox does not run" >&2; exit 1; }
	run rm "$container" >/dev/null
}

if [ "$archive" -nt images/Dockerfile ] && [ "$archive" -nt images.sh ] && [ "$archive" -nt "$bin/e2e.test" ] &&
	[ "$archive" -nt "$bin/agnhost" ] && [ "$archive" -nt "$bin/regression-issue-74839" ]; then
	echo "$out"
	exit
fi
mkdir -p "$out"
work=$(mktemp -d "$cache/e2e-images.XXXX")
trap 'rm -rf "$work"' EXIT
"$bin/e2e.test" --list-images >"$work/names"

ensure_base
for target in "${targets[@]}"; do
	name=$(name_of "$target")
	echo "building image $name" >&2
	run build --quiet --layers --pull-never --target "$target" --tag "$name" --file images/Dockerfile "$bin" >/dev/null
	run push --quiet "$name" "docker-archive:$work/$target.tar:$name" >/dev/null
	# Layers are files named by their digests, so they fall together.
	mkdir -p "$work/all"
	tar -C "$work/all" -xf "$work/$target.tar"
	printf '%s\n' "$(sed 's/^\[//; s/\]$//' "$work/all/manifest.json")" >>"$work/manifests"
	rm "$work/$target.tar"
done
try_images
echo "[$(paste -sd, "$work/manifests")]" >"$work/all/manifest.json"
rm -f "$work/all/repositories"
tar -C "$work/all" -cf "$archive.new" .
mv "$archive.new" "$archive"
echo "$out"
