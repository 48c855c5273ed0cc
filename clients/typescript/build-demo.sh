#!/usr/bin/env bash
# Makes the client that the demo page uses, one ES module: src/services/demo/throng-client.js. Run it after a change of src/.
# Usage: clients/typescript/build-demo.sh [--check]     --check: fails if the file there is not what would be made
set -euo pipefail
cd "$(dirname "$0")"

target=../../src/services/demo/throng-client.js
rm -rf build/demo
node_modules/.bin/tsc -p . --removeComments --declaration false --outDir build/demo
node scripts/bundle.mjs build/demo/index.js >build/demo/throng-client.js
if [[ ${1:-} == --check ]]; then
  cmp build/demo/throng-client.js "$target" || { echo "out of date: run clients/typescript/build-demo.sh" >&2; exit 1; }
else
  cp build/demo/throng-client.js "$target"
fi
echo "throng-client.js: $(wc -c <"$target") bytes, $(gzip -9c "$target" | wc -c) with gzip"
