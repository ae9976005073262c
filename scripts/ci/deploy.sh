#!/usr/bin/env bash
# Deploys $IMAGE@$DIGEST: to the cluster of $KUBECONFIG_CONTENT, or to a kind cluster made here. Back again if it fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=${IMAGE,,}@$DIGEST
docker=$(scripts/image/docker.sh)
if [ -n "${KUBECONFIG_CONTENT:-}" ]; then
  KUBECONFIG=$(mktemp)
  export KUBECONFIG
  printf '%s' "$KUBECONFIG_CONTENT" > "$KUBECONFIG"
else
  "$docker" login "${image%%/*}" --username "$REGISTRY_USER" --password-stdin <<< "$REGISTRY_TOKEN"
  "$docker" pull --quiet "$image"
  "$docker" tag "$image" neocog:dev
  make kind-up
fi
kubectl create secret docker-registry registry --namespace neocog --dry-run=client --output yaml \
  --docker-server "${image%%/*}" --docker-username "$REGISTRY_USER" --docker-password "$REGISTRY_TOKEN" | kubectl apply --filename -
kubectl patch serviceaccount neocog --namespace neocog --patch '{"imagePullSecrets": [{"name": "registry"}]}'
make deploy IMAGE="$image"
make verify || { make rollback; exit 1; }
