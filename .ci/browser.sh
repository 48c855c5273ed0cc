#!/usr/bin/env bash
# Two tabs of Chromium chat through a live server that is killed and restarted: tests/browser/proof.mjs.
# Environment: THRONG_BIN (target/release/throng), BROWSER_PORT (29003), BROWSER_SHOTS (target/browser).
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/ci-tools/browser
binary=${THRONG_BIN:-target/release/throng}
port=${BROWSER_PORT:-29003}
shots=${BROWSER_SHOTS:-target/browser}

if ! command -v chromium >/dev/null; then
  mkdir -p "$tools"
  (
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
  ) >"$tools.apt.log" 2>&1 || { tail -20 "$tools.apt.log" >&2; exit 1; }
fi
if [[ ! -d $tools/node_modules/puppeteer-core || ! -d $tools/node_modules/ws ]]; then
  mkdir -p "$tools"
  npm install --prefix "$tools" --no-save --no-audit --no-fund --ignore-scripts puppeteer-core@25.16.0 ws@8.23.0 \
    >"$tools.log" 2>&1 || { tail -20 "$tools.log" >&2; exit 1; }
fi

rm -rf "$shots"
CHROMIUM=$(command -v chromium) BROWSER_TOOLS=$tools node tests/browser/proof.mjs "$binary" "$port" "$shots"
