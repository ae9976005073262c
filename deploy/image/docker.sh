#!/bin/sh
# Prints the Docker client to use: $DOCKER, or the one that can build with BuildKit, or what is missing.
for client in ${DOCKER:-/usr/bin/docker docker}; do
  if command -v "$client" > /dev/null; then
    "$client" info > /dev/null 2>&1 || { echo "no Docker engine answers: start one (systemctl start docker, or dockerd), or be in the group docker" >&2; exit 1; }
    echo "$client"
    exit
  fi
done
echo "docker is missing: apt-get install docker.io, or https://docs.docker.com/engine/install/" >&2
exit 1
