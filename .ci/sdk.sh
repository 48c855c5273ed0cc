#!/usr/bin/env bash
# The TypeScript client: types, unit tests, and its tests against the real server (THRONG_BIN, default
# target/release/throng); and whether the demo page has its newest state.
set -euo pipefail
cd "$(dirname "$0")/.."

THRONG_BIN=$(realpath "${THRONG_BIN:-target/release/throng}")
export THRONG_BIN
cd clients/typescript
mkdir -p build
npm ci --no-audit --no-fund --ignore-scripts >build/npm.log 2>&1 || { tail -20 build/npm.log >&2; exit 1; }
npm run --silent typecheck
./build-demo.sh --check
npm test
