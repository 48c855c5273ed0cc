#!/usr/bin/env bash
# Installs Bun, the yardstick of the live comparison, as target/ci-tools/bun/bun. From npm alone: the package brings
# the program through an optional dependency; its install script, which may be disabled here, only links it.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/ci-tools/bun
if [[ ! -x $tools/bun ]]; then
  mkdir -p "$tools"
  npm install --prefix "$tools" --no-save --no-audit --no-fund --ignore-scripts bun@1.4.5 >"$tools.log" 2>&1 ||
    { tail -20 "$tools.log" >&2; exit 1; }
  for program in "$tools"/node_modules/@oven/bun-linux-*/bin/bun; do
    if "$program" --version >/dev/null 2>&1; then ln -sf "$program" "$tools/bun" && break; fi
  done
fi
[[ -x $tools/bun ]] || { echo "bun: no package for this machine runs; see $tools" >&2; exit 1; }
echo "bun $("$tools/bun" --version)"
