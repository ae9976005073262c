#!/usr/bin/env bash
# Whether $IMAGE@$DIGEST was built and signed by this repository's cd workflow; nothing else is deployed.
set -euo pipefail
image=${IMAGE,,}@$DIGEST
"$(scripts/image/docker.sh)" login "${image%%/*}" --username "$REGISTRY_USER" --password-stdin <<< "$GH_TOKEN"
cosign verify "$image" \
  --certificate-oidc-issuer https://token.actions.githubusercontent.com \
  --certificate-identity "https://github.com/$GITHUB_REPOSITORY/.github/workflows/cd.yml@$GITHUB_REF" > /dev/null
gh attestation verify "oci://$image" --repo "$GITHUB_REPOSITORY" --signer-workflow "$GITHUB_REPOSITORY/.github/workflows/cd.yml"
