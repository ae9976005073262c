#!/usr/bin/env bash
# Pushes neocog:dev to $IMAGE under its revision, and prints the digest that the registry gave it.
set -euo pipefail
docker=$(scripts/image/docker.sh)
image=${IMAGE,,}
"$docker" login "${image%%/*}" --username "$REGISTRY_USER" --password-stdin <<< "$REGISTRY_TOKEN"
tag=$("$docker" inspect --format '{{ index .Config.Labels "org.opencontainers.image.revision" }}' neocog:dev)
"$docker" tag neocog:dev "$image:$tag"
"$docker" push --quiet "$image:$tag"
digest=$("$docker" inspect --format '{{ index .RepoDigests 0 }}' "$image:$tag")
echo "digest=${digest#*@}" | tee -a "${GITHUB_OUTPUT:-/dev/null}"
