#!/usr/bin/env bash
# out/image.tar: neocog:dev, for another job.
set -euo pipefail
"$(deploy/image/docker.sh)" save --output out/image.tar neocog:dev
