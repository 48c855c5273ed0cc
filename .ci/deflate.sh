#!/usr/bin/env bash
# permessage-deflate between the server and npm `ws`, which brings a zlib of its own: .ci/deflate.mjs.
# Environment: THRONG_BIN (target/release/throng), DEFLATE_PORT (29004).
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/ci-tools/ws
out=$PWD/target/deflate
binary=${THRONG_BIN:-target/release/throng}
port=${DEFLATE_PORT:-29004}

if [[ ! -d $tools/node_modules/ws ]]; then
  mkdir -p "$tools"
  npm install --prefix "$tools" --no-save --no-audit --no-fund --ignore-scripts ws@8.23.0 \
    >"$tools.log" 2>&1 || { tail -20 "$tools.log" >&2; exit 1; }
fi

rm -rf "$out"
mkdir -p "$out"
source .ci/server.sh
serve --set ws.deflate=on --set limits.connections_per_ip=0 --set limits.handshakes_per_ip=0 --set limits.live=0 \
  --set limits.messages=0

token=$("$binary" token --data-dir "$out/data" --user ci)
WS_MODULE=$tools/node_modules/ws/wrapper.mjs timeout 120 node .ci/deflate.mjs "$port" "$token"
if grep -q panicked "$out/server.log"; then
  cat "$out/server.log" >&2
  exit 1
fi
