#!/usr/bin/env bash
# Puts out/report.md under the pull request, in place of what it said before.
set -euo pipefail
gh pr comment "$PULL_REQUEST" --repo "$GITHUB_REPOSITORY" --edit-last --create-if-none --body-file out/report.md
