#!/usr/bin/env bash
# Programs that tests need to read what we write, from Debian, as root. What comes from npm and PyPI the tests
# fetch themselves.
set -euo pipefail
missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v tmxrasterizer >/dev/null || missing+=(tiled)
command -v npm >/dev/null || missing+=(npm)
command -v redis-server >/dev/null || missing+=(redis-server)
if ((${#missing[@]})); then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
# Prometheus' tool alone: its package would start a server.
if ! command -v promtool >/dev/null; then
    folder=$(mktemp -d)
    chmod 755 "$folder"
    ((${#missing[@]})) || apt-get update -qq
    (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root prometheus && dpkg-deb -x prometheus_*.deb .)
    install "$folder/usr/bin/promtool" /usr/local/bin/
    rm -r "$folder"
fi
