#!/usr/bin/env bash
# Builds, under their public names, all images that the cluster runs, from the
# built programs and Debian packages, and writes each as an archive into the
# user's cache: a cluster that reaches no registry imports them. An image is built
# again when what it is made of is newer. Prints the folder. Needs root.
#
#   images.sh            all; svcproxy's from bin/svcproxy
#   images.sh svcproxy   that one alone
set -euo pipefail
# shellcheck source=hack/buildah.sh
. "$(dirname "$0")/../buildah.sh"
cd "$(dirname "$0")"

out=$cache/images
mkdir -p "$out"

# image NAME DOCKERFILE FOLDER PROGRAM: of a program in a folder, unless the archive is newer.
image() {
	local archive=$out/${1//[\/:]/_}.tar
	[ "$archive" -nt "$2" ] && [ "$archive" -nt "$3/$4" ] && return
	echo "building image $1" >&2
	build "$1" "$2" "$3" --build-arg "PROGRAM=$4"
	rm -f "$archive"
	run push --quiet "$1" "docker-archive:$archive:$1" >/dev/null
}

ensure_base
image docker.io/library/svcproxy:latest ../../Dockerfile ../.. bin/svcproxy
if [ "${1:-all}" = all ]; then
	kubernetes=$(../kubernetes/build.sh etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubeadm)
	programs=$(./programs.sh)
	while read -r name; do
		case $name in
		*/kube-proxy:*) image "$name" images/kube-proxy.Dockerfile "$kubernetes" kube-proxy ;;
		*/coredns:*) image "$name" images/coredns.Dockerfile "$programs" coredns ;;
		*/pause:*) image "$name" images/pause.Dockerfile "$programs" pause ;;
		*/kube-* | */etcd:*) program=${name##*/}; image "$name" images/program.Dockerfile "$kubernetes" "${program%:*}" ;;
		*) echo "images.sh: nothing is known of $name, which kubeadm wants" >&2; exit 1 ;;
		esac
	done < <("$kubernetes/kubeadm" config images list --kubernetes-version "$("$kubernetes/kubeadm" version -o short)")
	image ghcr.io/flannel-io/flannel:v0.28.10 images/flannel.Dockerfile "$programs" flanneld
	image ghcr.io/flannel-io/flannel-cni-plugin:v1.9.1-flannel1 images/flannel-cni-plugin.Dockerfile "$programs" flannel
	image docker.io/library/nginx:alpine images/nginx.Dockerfile images nginx.Dockerfile
fi
echo "$out"
