#!/usr/bin/env bash
# Autobahn test suite (RFC 6455, RFC 7692) against the development echo of the release binary.
# Usage: .ci/autobahn.sh [--update]          --update writes what ran to .ci/autobahn/expected.json
# Environment: THRONG_BIN (target/release/throng), AUTOBAHN_PORT (29001), PYTHON27,
#              AUTOBAHN_URL: test a server that already runs, instead of starting one,
#              AUTOBAHN_CASES: these instead of those of spec.json, for example "12.*,13.*".
#
# Sections 1-7, 9 and 10, and of 12 and 13 (compression) what the comment below says. Left out: 9.3.1, 9.3.2, 9.4.1 and 9.4.2,
# which cut 4 MiB into more than the 4,096 fragments that the server allows for one message.
#
# Sections 12 and 13 have 216 cases of 1,000 messages each, which keep the suite's own Python busy for 8 minutes of CPU (35 minutes on
# a loaded machine). spec.json takes 37 of them, one minute: of each kind of data (12.*) and each set of parameters (13.*) the messages of
# 256 bytes, of 4 KiB, and of 8 KiB in fragments of 256 bytes, and once those of 128 KiB. expected.json has all 216, from a run with
# AUTOBAHN_CASES="12.*,13.*"; repeat that run when the codec or the negotiation changes.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/ci-tools/autobahn
out=$PWD/target/autobahn
python=${PYTHON27:-$HOME/.pyenv/versions/2.7.18/bin/python2.7}
binary=${THRONG_BIN:-target/release/throng}
port=${AUTOBAHN_PORT:-29001}
url=${AUTOBAHN_URL:-}

"$python" --version >/dev/null 2>&1 || { echo "autobahn: needs CPython 2.7; set PYTHON27 (tried $python)" >&2; exit 1; }
if [[ ! -e $tools/.installed ]]; then
  mkdir -p "$tools"
  "$python" -m pip install --quiet --disable-pip-version-check --target "$tools" autobahntestsuite==25.10.1 \
    >"$tools.log" 2>&1 || { tail -20 "$tools.log" >&2; exit 1; }
  : >"$tools/zope/__init__.py" # a --target install leaves this namespace package without one
  : >"$tools/.installed"
fi

rm -rf "$out"
mkdir -p "$out"
server=
stop() {
  if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
}
trap stop EXIT

if [[ -z $url ]]; then
  url=ws://127.0.0.1:$port/echo
  # Section 9 sends messages of 16 MiB and reads them back late; the limits on addresses would see an attack.
  "$binary" serve --dev --listen "127.0.0.1:$port" --data-dir "$out/data" --shards 1 --set ws.deflate=on \
    --set ws.max_message_bytes=16777216 --set conn.out_queue_bytes=67108864 --set conn.write_timeout_ms=60000 \
    --set limits.connections_per_ip=0 --set limits.handshakes_per_ip=0 \
    --set limits.commands=0 --set limits.live=0 --set limits.messages=0 --set limits.connections_per_user=0 \
    >"$out/server.log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    kill -0 "$server" 2>/dev/null || { echo "autobahn: the server ended at start:" >&2; cat "$out/server.log" >&2; exit 1; }
    sleep 0.1
  done
fi

sed -e "s|@URL@|$url|" -e "s|@OUTDIR@|$out/report|" .ci/autobahn/spec.json >"$out/spec.json"
if [[ -n ${AUTOBAHN_CASES:-} ]]; then
  node -e 'const fs = require("fs"), [, path, cases] = process.argv, spec = JSON.parse(fs.readFileSync(path, "utf8"));
    spec.cases = cases.split(","); fs.writeFileSync(path, JSON.stringify(spec));' "$out/spec.json" "$AUTOBAHN_CASES"
fi
started=$SECONDS
if ! (cd "$out" && PYTHONPATH=$tools timeout 3600 "$python" -W ignore "$tools/bin/wstest" -m fuzzingclient -s spec.json) \
  >"$out/wstest.log" 2>&1; then
  tail -20 "$out/wstest.log" >&2
  echo "autobahn: the suite did not finish" >&2
  exit 1
fi
if [[ -n $server ]] && ! kill -0 "$server" 2>/dev/null; then
  echo "autobahn: the server ended during the run:" >&2
  tail -20 "$out/server.log" >&2
  exit 1
fi
echo "autobahn: ran in $((SECONDS - started)) s"
node .ci/autobahn/judge.mjs "$out/report/index.json" .ci/autobahn/expected.json "$out/spec.json" "$@"
