#!/usr/bin/env bash
# Takes from run $CI_RUN of ci.yml what it trained, judged and drilled on this commit: the champion, the log of promotions
# and the data. Nothing is trained again. `make image` holds the champion's hashes against both.
set -euo pipefail
cd "$(dirname "$0")/../.."
last() { tail -n 1 promotions.jsonl | sed -n 's/.*"model": "\([^"]*\)".*/\1/p'; }
committed=
[ ! -e promotions.jsonl ] || committed=$(last)
rm -rf out/judged out/champion
gh run download "$CI_RUN" --repo "$GITHUB_REPOSITORY" --name champion --dir out/judged
mkdir -p data
mv out/judged/out/champion out/champion
mv out/judged/data/*.npz data/
mv out/judged/promotions.jsonl promotions.jsonl
rm -r out/judged
echo "judged: model $(last) of run $CI_RUN"
[ -z "$committed" ] || [ "$committed" = "$(last)" ] || echo "judged: the committed promotions.jsonl ends with $committed; CI trained $(last) on this commit, and that is released"
