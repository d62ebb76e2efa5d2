#!/bin/sh
# Starts the nginx demo in the cluster that kubectl talks to and calls it by its
# cluster IP, which can be reached from the cluster's nodes.
#
#   start.sh             with a cluster IP that the API server chooses
#   start.sh fixed-ip    with 10.101.231.134
set -eu
cd "$(dirname "$0")"
command -v kubectl >/dev/null || { echo "start.sh: kubectl is not installed" >&2; exit 1; }
case ${1:-} in
"") kubectl apply -f namespace.yaml && kubectl apply -f deployment.yaml -f service.yaml ;;
fixed-ip) kubectl apply -k . ;;
*) echo "usage: start.sh [fixed-ip]" >&2; exit 2 ;;
esac
kubectl -n ns-test rollout status deployment/nginx-deployment --timeout=180s
ip=$(kubectl -n ns-test get service nginx-service -o 'jsonpath={.spec.clusterIP}')
echo "nginx-service has cluster IP $ip"
curl -sS --fail --max-time 5 --retry 5 --retry-connrefused --retry-delay 1 "http://$ip/" || {
	echo "start.sh: http://$ip/ does not answer from here; is this machine a node of the cluster?" >&2
	exit 1
}
