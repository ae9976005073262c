#!/usr/bin/env bash
# Whether ci.yml has passed on this very commit; a release of anything else stops here.
set -euo pipefail
passed=$(gh run list --repo "$GITHUB_REPOSITORY" --workflow ci.yml --commit "$GITHUB_SHA" --status success --json databaseId --jq length)
[ "$passed" -gt 0 ] || { echo "checked: ci.yml has not passed on $GITHUB_SHA; release a commit of main on which it has" >&2; exit 1; }
