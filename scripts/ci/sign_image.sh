#!/usr/bin/env bash
# Signs $IMAGE by its digest, with the workflow's own identity.
set -euo pipefail
cosign sign --yes "${IMAGE,,}@$DIGEST"
