#!/usr/bin/env bash
# Opens a pull request if the champion in out/champion was made of other data or parameters than the one before it, which
# .github/scripts/before.sh left in out/main. Other weights are no reason: another processor rounds differently.
set -euo pipefail
cd "$(dirname "$0")/../.."
made_of() {
  python3 -c 'import json, sys; of = json.load(open(sys.argv[1]))["sha256"]; print(of["data"][:12], of["params"][:12], sep="-")' "$1/manifest.json"
}
new=$(made_of out/champion)
if [ -e out/main/out/champion ] && [ "$new" = "$(made_of out/main/out/champion)" ]; then
  echo "retrain: data and parameters are the champion's; nothing to propose"
  exit
fi
# Named by what the model was made of: the same data are proposed once, whatever became of that pull request.
branch=retrain-$new
known=$(gh api "repos/$GITHUB_REPOSITORY/pulls?state=all&head=${GITHUB_REPOSITORY%%/*}:$branch" --jq length)
if [ "$known" != 0 ]; then
  echo "retrain: $branch has been proposed before; nothing to propose"
  exit
fi
push() { # the token comes from gh, so no command line shows it
  git -c credential.helper= -c credential.helper='!gh auth git-credential' push --quiet "$@"
}
remote=${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY
git config user.name "github-actions[bot]"
git config user.email "41898282+github-actions[bot]@users.noreply.github.com"
git switch --quiet -c "$branch"
git add --force dvc.lock promotions.jsonl
git commit --quiet -m "Retrained: $(python3 -c 'import json; print(json.load(open("out/champion/manifest.json"))["version"])')"
push --force "$remote" "$branch" # a run that was cut short may have left it
# Whether Actions may open pull requests is a setting that only administrators can read, so the attempt is the check.
if ! gh pr create --repo "$GITHUB_REPOSITORY" --head "$branch" --title "Retrained on new data" --body-file out/gate.md; then
  push --delete "$remote" "$branch"
  echo "retrain: no pull request could be opened, so $branch is deleted again; in Settings, Actions, General, check \"Allow GitHub Actions to create and approve pull requests\"" >&2
  exit 1
fi
