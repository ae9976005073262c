#!/usr/bin/env bash
# Resolves pyproject.toml's extras in an empty environment and writes what came out to constraints.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install uv torch==2.13.0 -e '.[serve,train,postgres,tracing,dev]'
{
  echo "# The tested set, every package of it. Made by \`make constraints\`; pip install -c constraints.txt holds to it."
  "$folder/venv/bin/pip" freeze --exclude-editable | sed -e 's/^\(torch==[0-9.]*\)+.*/\1/' -e 's/^torch @ .*/torch==2.13.0/'
} > constraints.txt
echo "constraints: $(grep -c == constraints.txt) packages pinned"
