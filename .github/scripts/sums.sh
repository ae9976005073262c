#!/usr/bin/env bash
# Packs the champion for the release (out/champion.tar.gz), and names the checksums of what later jobs take.
# A job's output can't be changed by another job; an artifact can be replaced by any action that runs in the same run.
set -euo pipefail
cd "$(dirname "$0")/../.."
# The same champion gives the same archive.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c out/champion promotions.jsonl | gzip -n > out/champion.tar.gz
sums=$(sha256sum out/image.tar out/sbom.json out/champion.tar.gz)
echo "$sums"
printf 'sums<<end\n%s\nend\n' "$sums" >> "${GITHUB_OUTPUT:-/dev/null}"
