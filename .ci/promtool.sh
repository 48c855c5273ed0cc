#!/usr/bin/env bash
# `promtool check metrics` on the metrics of a live server that has seen a connection.
# Environment: THRONG_BIN (target/release/throng), METRICS_PORT (29002).
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/ci-tools/prometheus
out=$PWD/target/promtool
binary=${THRONG_BIN:-target/release/throng}
port=${METRICS_PORT:-29002}

promtool=$(command -v promtool || true)
if [[ -z $promtool ]]; then
  promtool=$tools/usr/bin/promtool
  if [[ ! -x $promtool ]]; then
    # Unpacked, not installed: the package would start a server.
    mkdir -p "$tools"
    (
      cd "$tools"
      apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }
      dpkg-deb -x prometheus_*.deb .
    ) >"$tools.log" 2>&1 || { tail -20 "$tools.log" >&2; exit 1; }
  fi
fi

rm -rf "$out"
mkdir -p "$out"
source .ci/server.sh
serve

# A connection that is answered and one that is refused, so that the counters are not all zero.
token=$("$binary" token --data-dir "$out/data" --user ci)
node .ci/ws-probe.mjs "$port" "$token"
curl --silent --fail --max-time 5 --output "$out/metrics.txt" "http://127.0.0.1:$port/metrics"

# Warnings count too: promtool exits 3 for lint, 1 for syntax.
"$promtool" check metrics <"$out/metrics.txt"
families=$(grep -c '^# TYPE ' "$out/metrics.txt")
samples=$(grep -vc '^#' "$out/metrics.txt")
if ((families < 5)); then
  echo "promtool: only $families families in /metrics" >&2
  exit 1
fi
echo "promtool: $families families, $samples samples, no complaint"
