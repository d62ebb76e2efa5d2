#!/bin/sh
# Removes the nginx demo and waits until it is gone. Again does no harm.
set -eu
kubectl delete namespace ns-test --ignore-not-found --wait --timeout=180s
