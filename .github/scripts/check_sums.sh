#!/usr/bin/env bash
# Whether the files that .github/scripts/sums.sh named are still the same: $SUMS is what it printed.
set -euo pipefail
cd "$(dirname "$0")/../.."
sha256sum --check --strict <<< "$SUMS"
