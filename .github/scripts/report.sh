#!/usr/bin/env bash
# out/report.md: this run's metrics beside main's, and the gate's report; also into the job's summary.
set -euo pipefail
cd "$(dirname "$0")/../.."
.venv/bin/python -m pipelines.report > out/report.md
cat out/report.md >> "${GITHUB_STEP_SUMMARY:-/dev/stdout}"
