#!/usr/bin/env bash
# Deploys $IMAGE@$DIGEST: with $OVERLAY to the cluster of $KUBECONFIG_CONTENT, or else to a kind cluster made here.
#
# Nothing is applied while placeholders are left, or unless the cluster accepts all of it in a dry run. If anything fails
# after that, what ran before is put back. On a first deployment nothing ran before: what was created is deleted, so that
# nobody is answered by what was not verified.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=${IMAGE,,}@${DIGEST:?}
work=$(mktemp -d)
export KUBECONFIG=$work/kubeconfig
touch "$KUBECONFIG"
ran=     # the pods' template before
changed= # set from where the cluster may have been changed
outcome="what ran before is back"

template() {
  kubectl get deployment neocog --namespace neocog --ignore-not-found --output 'jsonpath={.spec.template}'
}

# Goes on after an error, and returns 1 then.
put_back() {
  local failed=0 now
  if [ -e "$work/others.json" ]; then kubectl apply --filename "$work/others.json" || failed=1; fi
  if [ -n "$ran" ]; then
    # Marks what is left as failed. Not if `make deploy` has gone back already: this would go back once more.
    if now=$(template) && [ "$now" != "$ran" ]; then make rollback || failed=1; fi
    if [ -e "$work/service.json" ]; then kubectl apply --filename "$work/service.json" || failed=1; fi
    kubectl rollout status deployment/neocog --namespace neocog --timeout 300s || failed=1
  fi
  if [ -e "$work/new.json" ]; then kubectl delete --ignore-not-found --filename "$work/new.json" || failed=1; fi
  return "$failed"
}

finish() {
  local status=$?
  trap - EXIT
  if [ "$status" != 0 ] && [ -n "$changed" ]; then
    .github/scripts/tell.sh || true
    put_back || outcome="not everything could be put back, see above"
    echo "deploy: $image failed; $outcome" >&2
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

if [ -n "${KUBECONFIG_CONTENT:-}" ]; then
  printf '%s' "$KUBECONFIG_CONTENT" > "$KUBECONFIG"
  overlay=${OVERLAY:-deploy/overlays/cloud}
  cp -R k8s deploy "$work" # the checkout stays as it is
  sed -i "s#newName: .*#newName: ${IMAGE,,}#; s#digest: sha256:.*#digest: $DIGEST#" "$work/$overlay/kustomization.yaml"
  kubectl kustomize "$work/$overlay" > "$work/manifests.yaml"
  left=$(grep -oE '\b(CLASS|OWNER)\b|[a-z.-]*example\.(com|org)|sha256:0{64}' "$work/manifests.yaml" | sort -u | paste -sd ' ' -) || true
  if [ -n "$left" ]; then
    echo "deploy: $overlay still has placeholders: $left; its kustomization.yaml says what to edit" >&2
    exit 1
  fi
  make install-dev # what is needed below fails here, or not at all
  if ! kubectl apply --dry-run=server --filename "$work/manifests.yaml"; then
    echo "deploy: the cluster refuses $overlay, see above; nothing was changed" >&2
    exit 1
  fi
  kubectl get --ignore-not-found --output json --filename "$work/manifests.yaml" > "$work/found.json"
  .venv/bin/python -m deploy.cluster.snapshot "$work"
  ran=$(template)
  [ -n "$ran" ] || outcome="nothing ran before, and what was created is deleted"
  changed=1
  kubectl apply --filename "$work/manifests.yaml"
else
  docker=$(deploy/image/docker.sh)
  "$docker" login "${image%%/*}" --username "$REGISTRY_USER" --password-stdin <<< "$REGISTRY_TOKEN"
  "$docker" pull --quiet "$image"
  "$docker" tag "$image" neocog:dev
  make kind-up PLAIN=1
  changed=1
  ran=$(template)
  # This token ends with the job, and so does this cluster.
  kubectl create secret generic registry --namespace neocog --type kubernetes.io/dockerconfigjson \
    --from-file ".dockerconfigjson=${DOCKER_CONFIG:-$HOME/.docker}/config.json"
  kubectl patch serviceaccount neocog --namespace neocog --patch '{"imagePullSecrets": [{"name": "registry"}]}'
fi
make deploy IMAGE="$image"
make verify
