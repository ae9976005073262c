#!/usr/bin/env bash
# Whether GitHub holds two attestations of $IMAGE@$DIGEST by this repository's cd.yml, for this tag and commit: one that
# says how it was built, one that says what is in it. Nothing else is deployed. $VISIBILITY is the repository's.
set -euo pipefail
image=${IMAGE,,}@$DIGEST
if [ "${VISIBILITY:?}" = private ]; then
  echo "verify: private repositories have no attestations without GitHub Enterprise; $image is what this run's job \`push\` pushed"
  exit
fi
"$(deploy/image/docker.sh)" login "${image%%/*}" --username "$REGISTRY_USER" --password-stdin <<< "$GH_TOKEN"
for type in https://slsa.dev/provenance/v1 https://cyclonedx.org/bom; do
  gh attestation verify "oci://$image" --predicate-type "$type" --repo "$GITHUB_REPOSITORY" \
    --signer-workflow "$GITHUB_REPOSITORY/.github/workflows/cd.yml" --source-ref "$GITHUB_REF" --source-digest "$GITHUB_SHA"
done
