#!/usr/bin/env bash
# TLS as independent clients speak it: OpenSSL by its own program and through curl and Python, none of which share code with rustls.
# Environment: THRONG_BIN (target/release/throng), TLS_PORT (29003; the plain listener is on the next one).
set -euo pipefail
cd "$(dirname "$0")/.."

out=$PWD/target/tls
binary=${THRONG_BIN:-target/release/throng}
port=${TLS_PORT:-29003}
plain=$((port + 1))
for tool in openssl curl python3; do
  command -v "$tool" >/dev/null || { echo "tls: no $tool" >&2; exit 1; }
done

rm -rf "$out"
mkdir -p "$out"
certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$1" \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
    -keyout "$out/key.pem" -out "$out/cert.pem" 2>/dev/null
  chmod 600 "$out/key.pem"
}
certificate first

server=
stop() {
  if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
}
trap stop EXIT
"$binary" serve --dev --listen "127.0.0.1:$plain" --data-dir "$out/data" --shards 2 --set "http.tls_listen=127.0.0.1:$port" \
  --set "tls.cert_file=$out/cert.pem" --set "tls.key_file=$out/key.pem" >"$out/server.log" 2>&1 &
server=$!
fail() { echo "tls: $1" >&2; tail -20 "$out/server.log" >&2; exit 1; }
get() { curl --silent --show-error --fail --max-time 5 --cacert "$out/cert.pem" "${@:2}" "https://localhost:$port$1"; }
for _ in $(seq 100); do
  get /readyz >/dev/null 2>&1 && break
  kill -0 "$server" 2>/dev/null || fail "the server ended at start"
  sleep 0.1
done

# Pages, in both versions, with the protocol that ALPN names.
for version in 1.2 1.3; do
  [[ $(get /healthz --tlsv$version --tls-max $version) == ok ]] || fail "no page by TLS $version"
done
[[ $(get /healthz --http2 --write-out '%{http_version}' --output /dev/null) == 1.1 ]] || fail "ALPN does not lead to HTTP/1.1"
[[ $(get /demo/app.js) == *wss:* ]] || fail "the demo page does not speak wss"

# Nothing older, and no renegotiation.
ask() { openssl s_client -connect "127.0.0.1:$port" -servername localhost -CAfile "$out/cert.pem" "$@"; }
for version in -tls1 -tls1_1; do
  ask $version -cipher 'ALL:@SECLEVEL=0' </dev/null >"$out/old.log" 2>&1 || true
  grep -Eq 'SSL alert number (40|70)' "$out/old.log" || fail "$version was not refused"
done

# A session is resumed by its ticket, in both versions.
for version in tls1_2 tls1_3; do
  session=$out/$version.session
  printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n' |
    ask -$version -sess_out "$session" -ign_eof >"$out/$version.log" 2>&1 || fail "no session by $version"
  printf 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n' |
    ask -$version -sess_in "$session" -ign_eof >"$out/$version.again.log" 2>&1 || fail "no second session by $version"
  grep -q '^Reused, TLSv1' "$out/$version.again.log" || fail "$version: the ticket was not taken"
  grep -q 'Verify return code: 0' "$out/$version.log" || fail "$version: the certificate does not hold"
done

# A WebSocket over Python's OpenSSL: both versions.
token=$("$binary" token --data-dir "$out/data" --user ci)
python3 .ci/tls_chat.py "$port" "$out/cert.pem" "$token" || fail "the chat over TLS failed"

# Another certificate, by signal. (No pipes into `grep -q`: it leaves early, and who still writes fails.)
is_second() { grep -q 'CN *= *second' <<<"$(ask </dev/null 2>/dev/null)"; }
certificate second
kill -HUP "$server"
for _ in $(seq 50); do
  is_second && break
  sleep 0.1
done
is_second || fail "the second certificate is not shown"

# HTTP without TLS is told so.
[[ $(curl --silent --max-time 5 "http://127.0.0.1:$port/") == *https://* ]] || fail "no hint for HTTP without TLS"
grep -qi panicked "$out/server.log" && fail "the server panicked"
echo "tls: $(openssl version), $(curl --version | head -1 | cut -d' ' -f1,2), $(python3 --version) agree with the server"
