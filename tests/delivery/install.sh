#!/usr/bin/env bash
# Debian packages that tests/delivery needs; run as root. What comes from npm and PyPI, the tests fetch.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium nodejs npm tiled
