#!/usr/bin/env bash
# Installs the programs that the tests use, as Debian's packages. What is there already stays as it is.
# IMAGE_BASES=public: a Docker engine is there, and the images' bases are pulled, so neither is installed.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # where Debian puts some of them, for users who are not root
packages=()
need() { command -v "$1" > /dev/null || packages+=("$2"); }

command -v pg_ctl > /dev/null || compgen -G '/usr/lib/postgresql/*/bin/pg_ctl' > /dev/null || packages+=(postgresql)
need redis-server redis-server
need promtool prometheus
need prometheus-alertmanager prometheus-alertmanager
command -v google-chrome > /dev/null || need chromium chromium
need npm npm
client=()
if [ "${IMAGE_BASES:-}" != public ]; then
  need dockerd docker.io
  need debootstrap debootstrap
  need iptables iptables
  # Up to Debian 12, docker.io has the client, too. Since Debian 13 the client and its BuildKit are packages of their own.
  [ -x /usr/bin/docker ] || client=(docker-cli docker-buildx)
fi
[ ${#packages[@]} -gt 0 ] || [ ${#client[@]} -gt 0 ] || exit 0

command -v apt-get > /dev/null || { echo "tools.sh: apt-get is missing; install these yourself: ${packages[*]} ${client[*]}" >&2; exit 1; }
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
$as_root apt-get update -qq
for package in "${client[@]}"; do
  [[ $(apt-cache policy "$package") != *"Candidate: "[0-9]* ]] || packages+=("$package")
done
[ ${#packages[@]} -gt 0 ] || exit 0
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" > /dev/null
