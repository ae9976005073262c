#!/usr/bin/env bash
# Fetches what this run is compared with into out/main: main's metrics.json, its champion and its log of promotions.
# They come from the last run of ci.yml on main that passed, or else, for the champion, from the newest release: GitHub
# deletes a run's artifacts after 90 days. A checkout that has no champion of its own gets this one.
#
# Only pushes count. GitHub lists a pull request from a fork's own branch `main` under --branch main, too, and a fork's
# artifact must never become the champion.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -n "${GITHUB_REPOSITORY:-}" ] || exit 0
rm -rf out/main
mkdir -p out/main
run=$(gh run list --repo "$GITHUB_REPOSITORY" --workflow ci.yml --event push --branch main --status success --limit 1 \
  --json databaseId --jq '.[].databaseId')
if [ -n "$run" ]; then
  for name in metrics champion; do
    gh run download "$run" --repo "$GITHUB_REPOSITORY" --name "$name" --dir out/main || echo "before: run $run of main has no artifact $name any more"
  done
else
  echo "before: ci.yml has not passed on main yet"
fi
if [ ! -e out/main/out/champion ]; then
  if gh release download --repo "$GITHUB_REPOSITORY" --pattern champion.tar.gz --dir out/main; then
    tar -xzf out/main/champion.tar.gz -C out/main
  else
    echo "before: there is no champion to compare with, neither of main nor in a release"
    exit
  fi
fi
[ -e out/champion ] || cp -R out/main/out/champion out/champion
[ -e promotions.jsonl ] || cp out/main/promotions.jsonl .
