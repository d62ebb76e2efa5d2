#!/usr/bin/env bash
# Writes anew what the tests of the command know of kube-proxy's and kubeadm's
# configuration, from the real programs, and the list of feature gates.
set -euo pipefail
cd "$(dirname "$0")"
bin=$(./build.sh kube-proxy kubeadm)
command=../../cmd/svcproxy
data=$command/testdata

"$bin/kube-proxy" --help | sed -nE 's/^ +(-[a-z], )?--([a-z0-9-]+) .*/\2/p' >"$data/kube-proxy-flags.txt"
"$bin/kube-proxy" --write-config-to="$data/kube-proxy-config.yaml"
"$bin/kubeadm" init phase addon kube-proxy --print-manifest --kubernetes-version "$("$bin/kubeadm" version -o short)" \
	--apiserver-advertise-address 192.168.0.100 --pod-network-cidr 10.21.0.0/16 >"$data/kubeadm-kube-proxy.yaml"
go run ./gates >"$command/featuregates.txt"
