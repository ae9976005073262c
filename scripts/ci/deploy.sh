#!/usr/bin/env bash
# Deploys $IMAGE@$DIGEST: with $OVERLAY to the cluster of $KUBECONFIG_CONTENT, or to a kind cluster made here. Back if it fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=${IMAGE,,}
image=$repository@$DIGEST
trap '[ $? = 0 ] || scripts/ci/tell.sh; rm -f "${KUBECONFIG:-}"' EXIT
KUBECONFIG=$(mktemp)
export KUBECONFIG
if [ -n "${KUBECONFIG_CONTENT:-}" ]; then
  printf '%s' "$KUBECONFIG_CONTENT" > "$KUBECONFIG"
  overlay=${OVERLAY:-deploy/overlays/cloud}
  sed -i "s#newName: .*#newName: $repository#; s#digest: sha256:.*#digest: $DIGEST#" "$overlay/kustomization.yaml"
  kubectl apply -k "$overlay"
else
  docker=$(scripts/image/docker.sh)
  "$docker" login "${image%%/*}" --username "$REGISTRY_USER" --password-stdin <<< "$REGISTRY_TOKEN"
  "$docker" pull --quiet "$image"
  "$docker" tag "$image" neocog:dev
  make kind-up PLAIN=1
  # This token ends with the job, and so does this cluster.
  kubectl create secret generic registry --namespace neocog --type kubernetes.io/dockerconfigjson \
    --from-file ".dockerconfigjson=${DOCKER_CONFIG:-$HOME/.docker}/config.json"
  kubectl patch serviceaccount neocog --namespace neocog --patch '{"imagePullSecrets": [{"name": "registry"}]}'
fi
make deploy IMAGE="$image"
make verify || { make rollback; exit 1; }
