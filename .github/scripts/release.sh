#!/usr/bin/env bash
# Gives the tag a GitHub release with the champion and the SBOM. They stay there; artifacts are deleted after 90 days.
set -euo pipefail
cd "$(dirname "$0")/../.."
assets=(out/champion.tar.gz out/sbom.json)
if gh release view "$GITHUB_REF_NAME" --repo "$GITHUB_REPOSITORY" > /dev/null 2>&1; then # this job ran before
  gh release upload "$GITHUB_REF_NAME" --repo "$GITHUB_REPOSITORY" --clobber "${assets[@]}"
  exit
fi
kind=()
[[ $GITHUB_REF_NAME != *-* ]] || kind=(--prerelease) # 1.2.3-rc.1 is no release to take a champion from
gh release create "$GITHUB_REF_NAME" --repo "$GITHUB_REPOSITORY" --verify-tag --title "$GITHUB_REF_NAME" \
  --notes "\`${IMAGE,,}@$DIGEST\`" "${kind[@]}" "${assets[@]}"
