#!/usr/bin/env bash
# Pushes neocog:dev to $IMAGE, tagged with its revision and with the version in $GITHUB_REF_NAME (v1.2.3: 1.2.3).
# Prints the digest that the registry gave it.
set -euo pipefail
docker=$(deploy/image/docker.sh)
image=${IMAGE,,}
revision=$("$docker" inspect --format '{{ index .Config.Labels "org.opencontainers.image.revision" }}' neocog:dev)
case $revision in
  *-dirty) echo "push: neocog:dev was built from uncommitted changes ($revision); commit them and build again" >&2 && exit 1 ;;
  unknown) echo "push: neocog:dev names no revision; build it in a git checkout" >&2 && exit 1 ;;
esac
version=${GITHUB_REF_NAME#v}
version=${version//+/-} # a tag of an image can't have the + of a semantic version
"$docker" login "${image%%/*}" --username "$REGISTRY_USER" --password-stdin <<< "$REGISTRY_TOKEN"
for tag in "$revision" "$version"; do
  "$docker" tag neocog:dev "$image:$tag"
  "$docker" push --quiet "$image:$tag"
done
digest=$("$docker" inspect --format '{{ range .RepoDigests }}{{ println . }}{{ end }}' "$image:$revision" | sed -n "s#^$image@##p")
echo "digest=$digest" | tee -a "${GITHUB_OUTPUT:-/dev/null}"
