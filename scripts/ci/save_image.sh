#!/usr/bin/env bash
# out/image.tar: neocog:dev, for another job.
set -euo pipefail
"$(scripts/image/docker.sh)" save --output out/image.tar neocog:dev
