#!/usr/bin/env bash
# Pins every requirement file again, with hashes and without addresses. Needs `uv`. Run from the project's root.
set -euo pipefail
pin() {
  uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet \
    --output-file "requirements/$1.txt" "${@:2}"
}
pin build --group pyproject.toml:build
pin node pyproject.toml
pin hub --extra hub pyproject.toml
pin train --extra hub --extra train pyproject.toml
pin postgres --extra hub --extra postgres pyproject.toml
pin dev --extra hub --extra dev pyproject.toml
pin all --extra all pyproject.toml
