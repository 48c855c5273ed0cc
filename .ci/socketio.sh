#!/usr/bin/env bash
# The real clients of Socket.IO and Engine.IO against the server, tests/socketio: npm socket.io-client 4 and 2, engine.io-client, ws,
# PyPI python-socketio. Each test file starts servers of its own, on ports from 26000 to 29999, and ends them.
# Usage: .ci/socketio.sh [--reference] [FILE...]      FILE: tests/socketio/NAME.test.mjs, all without
#        --reference: the same tests against npm socket.io, so far as they hold there: are the expectations right?
# Environment: THRONG_BIN (the debug build, which is made if it is not set), SOCKETIO_TOOLS (target/ci-tools/socketio).
set -euo pipefail
cd "$(dirname "$0")/.."

here=$PWD/tests/socketio
export SOCKETIO_TOOLS=${SOCKETIO_TOOLS:-$PWD/target/ci-tools/socketio}
mkdir -p "$SOCKETIO_TOOLS"

if ! cmp -s "$here/package-lock.json" "$SOCKETIO_TOOLS/installed.json"; then
  cp "$here/package.json" "$here/package-lock.json" "$SOCKETIO_TOOLS/"
  npm ci --prefix "$SOCKETIO_TOOLS" --ignore-scripts --no-audit --no-fund >"$SOCKETIO_TOOLS/npm.log" 2>&1 ||
    { tail -20 "$SOCKETIO_TOOLS/npm.log" >&2; exit 1; }
  cp "$here/package-lock.json" "$SOCKETIO_TOOLS/installed.json"
fi

if ! cmp -s "$here/requirements.txt" "$SOCKETIO_TOOLS/installed.txt"; then
  (
    if ! python3 -c "import ensurepip" 2>/dev/null; then
      apt-get update -qq
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
    fi
    python3 -m venv --clear "$SOCKETIO_TOOLS/venv"
    "$SOCKETIO_TOOLS/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$here/requirements.txt"
  ) >"$SOCKETIO_TOOLS/pip.log" 2>&1 || { tail -20 "$SOCKETIO_TOOLS/pip.log" >&2; exit 1; }
  cp "$here/requirements.txt" "$SOCKETIO_TOOLS/installed.txt"
fi

if [[ ${1:-} == --reference ]]; then
  shift
  export SOCKETIO_SERVER=reference
elif [[ -z ${THRONG_BIN:-} ]]; then
  cargo build --quiet --bin throng
  THRONG_BIN=$PWD/target/debug/throng
fi
[[ -z ${THRONG_BIN:-} ]] || THRONG_BIN=$(realpath "$THRONG_BIN")
export THRONG_BIN=${THRONG_BIN:-}

(($#)) || set -- "$here"/*.test.mjs
timeout 1200 node --test --test-reporter=spec --test-concurrency=2 "$@"
