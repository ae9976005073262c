#!/usr/bin/env bash
# What main's last run that passed has left: out/main/metrics.json to compare with and, where this checkout has no champion,
# the champion and the log of promotions, so that the gate compares with them. Nothing of it is needed.
set -euo pipefail
[ -n "${GITHUB_REPOSITORY:-}" ] || exit 0
run=$(gh run list --repo "$GITHUB_REPOSITORY" --workflow ci.yml --branch main --status success --limit 1 --json databaseId --jq '.[].databaseId') || run=
[ -n "$run" ] || { echo "main has no run yet that passed"; exit 0; }
gh run download "$run" --repo "$GITHUB_REPOSITORY" --name metrics --dir out/main || echo "main's metrics are gone"
[ -e out/champion ] || gh run download "$run" --repo "$GITHUB_REPOSITORY" --name champion --dir out/main || echo "main's champion is gone"
[ ! -e out/main/out/champion ] || { mkdir -p out && mv out/main/out/champion out/champion; }
[ -e promotions.jsonl ] || [ ! -e out/main/promotions.jsonl ] || cp out/main/promotions.jsonl .
