#!/usr/bin/env bash
# What a cluster says of itself, after something failed in it.
set -uo pipefail
kubectl get all,events --namespace neocog --output wide
kubectl describe pods --namespace neocog
kubectl logs --namespace neocog --selector app.kubernetes.io/name=neocog --tail 50 --prefix
