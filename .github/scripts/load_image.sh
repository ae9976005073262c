#!/usr/bin/env bash
# neocog:dev, from out/image.tar.
set -euo pipefail
"$(deploy/image/docker.sh)" load --input out/image.tar
