#!/usr/bin/env bash
# Programs that tests/delivery needs, from Debian, as root. What comes from npm and PyPI the tests fetch.
set -euo pipefail
missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v tmxrasterizer >/dev/null || missing+=(tiled)
command -v npm >/dev/null || missing+=(npm)
if ((${#missing[@]})); then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
