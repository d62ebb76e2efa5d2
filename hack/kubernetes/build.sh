#!/usr/bin/env bash
# Builds programs of Kubernetes, of its tests, and etcd, of the versions in the
# go.mod files here, from the Go module proxy; each once, into the user's cache.
# The first time takes minutes. Prints the folder that they are in.
#
#   build.sh kube-apiserver kube-controller-manager etcd kube-proxy...
#   build.sh e2e.test ginkgo agnhost    # upstream's end-to-end tests; e2e.test takes 12 minutes
set -euo pipefail
cd "$(dirname "$0")"

version_of() { # MODULE FOLDER
	awk -v m="$1" '$1 == m { print $2; exit } $1 == "require" && $2 == m { print $3; exit }' "$2/go.mod"
}
kubernetes=$(version_of k8s.io/kubernetes .)
etcd=$(version_of go.etcd.io/etcd/server/v3 etcd)
out=${XDG_CACHE_HOME:-$HOME/.cache}/svcproxy/kubernetes-$kubernetes-etcd-$etcd
mkdir -p "$out"

for name in "$@"; do
	[ -x "$out/$name" ] && continue
	verb=build folder=.
	case $name in
	etcd) package=go.etcd.io/etcd/server/v3 folder=etcd ;;
	e2e.test) package=k8s.io/kubernetes/test/e2e verb="test -c" ;;
	ginkgo) package=github.com/onsi/ginkgo/v2/ginkgo ;;
	agnhost | regression-issue-74839) package=k8s.io/kubernetes/test/images/$name ;;
	*) package=k8s.io/kubernetes/cmd/$name ;;
	esac
	echo "building $name, which takes minutes the first time" >&2
	set=
	for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		set+=" -X $p.gitVersion=$kubernetes"
	done
	# shellcheck disable=SC2086 # the verb is two words for tests
	(cd "$folder" && CGO_ENABLED=0 go $verb -trimpath -ldflags "-s -w$set" -o "$out/.$name.$$" "$package") >&2
	mv "$out/.$name.$$" "$out/$name"
done
echo "$out"
