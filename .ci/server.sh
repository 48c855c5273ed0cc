# For `source`: a server for one step of CI. Expects $binary, $port and $out (an empty folder); ends it with the script.
server=
trap 'if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi' EXIT

# serve ARG...: starts a development server with these arguments besides, and waits until it is ready.
serve() {
  "$binary" serve --dev --listen "127.0.0.1:$port" --data-dir "$out/data" --shards 2 "$@" >"$out/server.log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    curl --silent --fail --max-time 2 --output /dev/null "http://127.0.0.1:$port/readyz" && return
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  echo "$0: the server did not become ready:" >&2
  cat "$out/server.log" >&2
  exit 1
}
