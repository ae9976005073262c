#!/usr/bin/env bash
# A pull request with what `dvc repro` just promoted; none where the champion stayed the one that scripts/ci/before.sh found.
set -euo pipefail
cd "$(dirname "$0")/../.."
if cmp -s promotions.jsonl out/main/promotions.jsonl; then # dvc.lock differs after every run: bundles have a time
  echo "retrain: the champion is what it was"
  exit
fi
branch=retrain-$(date -u +%Y%m%d-%H%M%S)
git config user.name "github-actions[bot]"
git config user.email "41898282+github-actions[bot]@users.noreply.github.com"
git switch -c "$branch"
git add --force dvc.lock promotions.jsonl
git commit -m "Retrained: $(tail -1 promotions.jsonl | .venv/bin/python -c 'import json, sys; print(json.load(sys.stdin)["model"])')"
git push "https://x-access-token:$GH_TOKEN@github.com/$GITHUB_REPOSITORY" "$branch"
gh pr create --repo "$GITHUB_REPOSITORY" --head "$branch" --title "Retrained" --body-file out/gate.md
