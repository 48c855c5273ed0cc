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
server=
stop() {
  if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
}
trap stop EXIT
"$binary" serve --dev --listen "127.0.0.1:$port" --data-dir "$out/data" --shards 2 --set ws.deflate=on \
  --set limits.connections_per_ip=0 --set limits.handshakes_per_ip=0 --set limits.live=0 --set limits.messages=0 \
  >"$out/server.log" 2>&1 &
server=$!
for _ in $(seq 100); do
  curl --silent --fail --max-time 2 --output /dev/null "http://127.0.0.1:$port/readyz" && break
  kill -0 "$server" 2>/dev/null || { echo "deflate: the server ended at start:" >&2; cat "$out/server.log" >&2; exit 1; }
  sleep 0.1
done

token=$("$binary" token --data-dir "$out/data" --user ci)
WS_MODULE=$tools/node_modules/ws/wrapper.mjs timeout 120 node .ci/deflate.mjs "$port" "$token"
if grep -q panicked "$out/server.log"; then
  cat "$out/server.log" >&2
  exit 1
fi
