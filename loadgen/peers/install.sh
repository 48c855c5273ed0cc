#!/usr/bin/env bash
# Installs peers of the comparison: install.sh [NAME…], all without names. Names: bun ws socketio nchan tokio-tungstenite
# fastwebsockets. What is there already stays. Everything goes into target/peers, but for nginx, which is Debian's.
set -euo pipefail
cd "$(dirname "$0")"

target=$(cd ../.. && pwd)/target/peers
mkdir -p "$target"

# bun, ws and socketio share one set of packages, pinned by package-lock.json. Install scripts, which may be disabled, do
# nothing that is needed here.
npm_packages() {
  local folder=$target/npm
  if ! cmp -s package-lock.json "$folder/installed.json"; then
    mkdir -p "$folder"
    cp package.json package-lock.json "$folder/"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund >"$folder.log" 2>&1 ||
      { tail -20 "$folder.log" >&2; exit 1; }
    cp package-lock.json "$folder/installed.json"
  fi
  [[ $1 == bun ]] || return 0
  for program in "$folder"/node_modules/@oven/bun-linux-*/bin/bun; do
    if "$program" --version >/dev/null 2>&1; then
      ln -sf "$program" "$target/bun"
      return
    fi
  done
  echo "bun: no package for this machine runs; see $folder" >&2
  exit 1
}

rust_peers() {
  cargo build --quiet --release --locked --manifest-path rust/Cargo.toml --target-dir "$target/rust"
}

# Debian starts nginx as a service on port 80 where services run; `systemctl disable --now nginx` ends that.
nginx_nchan() {
  if [[ ! -x /usr/sbin/nginx || ! -e /usr/lib/nginx/modules/ngx_nchan_module.so ]]; then
    local sudo=()
    ((EUID == 0)) || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends nginx libnginx-mod-nchan >"$target/nchan.log" 2>&1 ||
      { tail -20 "$target/nchan.log" >&2; exit 1; }
  fi
}

(($#)) || set -- bun ws socketio nchan tokio-tungstenite fastwebsockets
for name in "$@"; do
  case $name in
    bun | ws | socketio) npm_packages "$name" ;;
    nchan) nginx_nchan ;;
    tokio-tungstenite | fastwebsockets) rust_peers ;;
    *) echo "no peer is called $name" >&2; exit 3 ;;
  esac
  echo "$name: installed"
done
