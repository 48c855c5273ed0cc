#!/usr/bin/env bash
# npm eventsource and Chromium's EventSource against a live server: tests/sse/proof.mjs.
# Environment: THRONG_BIN (target/release/throng), SSE_PORT (29005, and the next one).
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/ci-tools
binary=${THRONG_BIN:-target/release/throng}
port=${SSE_PORT:-29005}

if ! command -v chromium >/dev/null; then
  mkdir -p "$tools"
  (
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
  ) >"$tools/sse.apt.log" 2>&1 || { tail -20 "$tools/sse.apt.log" >&2; exit 1; }
fi
if [[ ! -d $tools/browser/node_modules/puppeteer-core ]]; then
  mkdir -p "$tools/browser"
  npm install --prefix "$tools/browser" --no-save --no-audit --no-fund --ignore-scripts puppeteer-core@25.16.0 ws@8.23.0 \
    >"$tools/browser.log" 2>&1 || { tail -20 "$tools/browser.log" >&2; exit 1; }
fi
# The newest eventsource that runs on Node 20.
if [[ ! -d $tools/sse/node_modules/eventsource ]]; then
  mkdir -p "$tools/sse"
  npm install --prefix "$tools/sse" --no-save --no-audit --no-fund --ignore-scripts eventsource@4.1.1 ws@8.23.0 \
    >"$tools/sse.log" 2>&1 || { tail -20 "$tools/sse.log" >&2; exit 1; }
fi

CHROMIUM=$(command -v chromium) BROWSER_TOOLS=$tools/browser SSE_TOOLS=$tools/sse node tests/sse/proof.mjs "$binary" "$port"
