#!/usr/bin/env bash
# What the project is tested against: its tests skip where one of these is missing. IMAGE_BASES=public: an engine is there.
set -euo pipefail
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
tools=(postgresql redis-server prometheus)
command -v google-chrome > /dev/null || tools+=(chromium)
command -v npm > /dev/null || tools+=(npm)
[ "${IMAGE_BASES:-}" = public ] || tools+=(docker.io debootstrap iptables)
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${tools[@]}" > /dev/null
