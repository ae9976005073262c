#!/usr/bin/env bash
# Waits until ci.yml has passed on this very commit of main, and names the run. Fails at once if CI has failed.
# A tag that is pushed together with its commit comes before CI has finished, or even started.
set -euo pipefail
pause=${PAUSE_SECONDS:-30} # between two looks
looks=${LOOKS:-100}        # 50 minutes in all
start=${LOOKS_TO_START:-20} # 10 minutes for the run to appear
said=
for look in $(seq "$looks"); do
  [ "$look" = 1 ] || sleep "$pause"
  # GitHub's API fails now and then. gh says why, and the next look tries again.
  found=$(gh run list --repo "$GITHUB_REPOSITORY" --workflow ci.yml --event push --branch main --commit "$GITHUB_SHA" --limit 1 \
    --json databaseId,status,conclusion --jq '.[] | "\(.databaseId) \(.status) \(.conclusion)"') || found="- unreadable"
  read -r run status conclusion <<< "$found" || true
  case "$status $conclusion" in
    "completed success")
      echo "checked: ci.yml has passed on $GITHUB_SHA (run $run)"
      echo "run=$run" >> "${GITHUB_OUTPUT:-/dev/null}"
      exit
      ;;
    "completed "*)
      echo "checked: ci.yml has not passed on $GITHUB_SHA: run $run is $conclusion; release a commit of main on which it has" >&2
      exit 1
      ;;
    "unreadable ") now="GitHub could not be asked" ;;
    " ") now="there is no run of ci.yml on main for $GITHUB_SHA yet" ;;
    *) now="run $run of ci.yml is $status" ;;
  esac
  if [ -z "$status" ] && [ "$look" -ge "$start" ]; then
    echo "checked: ci.yml did not run on $GITHUB_SHA; release the last commit of a push to main" >&2
    exit 1
  fi
  [ "$now" = "$said" ] || echo "checked: $now; waiting"
  said=$now
done
echo "checked: $now, after $looks looks; when it has passed, run this job again" >&2
exit 1
