#!/usr/bin/env bash
# Makes data of people's labels, where the secret NEOCOG_JOURNAL names a journal that GitHub's machines reach.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -z "${NEOCOG_JOURNAL:-}" ] || .venv/bin/python -m pipelines.feedback
