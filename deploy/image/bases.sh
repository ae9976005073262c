#!/usr/bin/env bash
# Makes the base images that the Dockerfile builds on, where no registry can be reached: from Debian's packages and wheels.
#   neocog-builder  Debian with python3, its venv, binutils and, in /wheels, what pip would download
#   neocog-base     Python and the libraries it needs, and nothing else: like distroless, no shell and no package manager
# usage: [SUITE=trixie] bases.sh [training]
# `training` makes the bases of the training image instead: neocog-builder-training has torch, MLflow and DVC in /wheels,
# neocog-runtime-training is Debian with python3.
#
# SUITE is Debian's release. It is trixie, as in the public base, except for `training` on a machine with Python 3.11: there
# it is bookworm, which has that Python. pip then finds the wheels it found for .venv, torch's CPU build among them.
#
# It needs root (or sudo), debootstrap, Docker, a mirror of Debian, and a package index. The images can then be carried
# (docker save) to a machine that has none of these.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
case $python in python3.11) same=bookworm ;; python3.13) same=trixie ;; *) same= ;; esac # the release with this Python
[ "${1:-}" = training ] || SUITE=${SUITE:-trixie}
SUITE=${SUITE:-${same:-trixie}}
work=out/image
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
docker=$(deploy/image/docker.sh)

# The mirror that this machine's own packages come from.
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(CODENAME)' 'Created-By: Packages' |
  awk '$2 == "Debian" && $3 !~ /-/ { print $1; exit }')}
root=$work/$SUITE
if [ ! -e "$root.done" ]; then
  command -v debootstrap > /dev/null || { echo "bases.sh: debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }
  $as_root rm -rf "$root" && mkdir -p "$work"
  $as_root debootstrap --variant=minbase --include=python3,python3-venv,binutils,ca-certificates "$SUITE" "$root" "$mirror" > "$work/debootstrap.log" ||
    { tail -3 "$work/debootstrap.log" >&2; exit 1; }
  touch "$root.done"
fi
$as_root tar -C "$root" --one-file-system --exclude=./proc/\* --exclude=./sys/\* --exclude=./var/cache/apt/archives/\*.deb -c . |
  "$docker" import - "neocog-debian:$SUITE" > /dev/null

if [ "${1:-}" = training ]; then
  extras=(train postgres) name=neocog-builder-training
else
  extras=(serve postgres) name=neocog-builder
  # What python3 needs of Debian, file by file, with the record of each package for the SBOM.
  packages=$(dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Package}\n' | grep -Ex \
    'base-files|ca-certificates|media-types|netbase|tzdata|libc6|libgcc-s1|libstdc\+\+6|gcc-.*-base|zlib1g|libbz2-1.0|libcrypt1|libdb5.3(t64)?|libexpat1|libffi8|liblzma5|libncursesw6|libtinfo6|libreadline8(t64)?|libsqlite3-0|libssl3(t64)?|libuuid1|libzstd1|libpython3\.[0-9]+-(minimal|stdlib)|python3\.[0-9]+-minimal')
  record=$work/status.d
  rm -rf "$record" && mkdir -p "$record/var/lib/dpkg/status.d"
  files=$work/files
  for package in $packages; do
    dpkg-query --admindir="$root/var/lib/dpkg" -s "$package" > "$record/var/lib/dpkg/status.d/$package"
    dpkg-query --admindir="$root/var/lib/dpkg" -L "$package"
  done | sort -u | grep -Ev '^/usr/share/(doc|man|lintian|bug)/.*[^t]$|^/\.$' > "$files"
  printf '%s\n' /bin /lib /lib64 /usr/bin/python3 /etc/ssl/certs/ca-certificates.crt /tmp /etc/passwd /etc/group >> "$files"
  # A tar keeps links as they are. --no-recursion: a folder's content is listed itself.
  # Debian 12's packages still name /lib, which is a link to /usr/lib.
  sed -E 's#^/((s?bin|lib(64)?)/)#/usr/\1#; s#^/##' "$files" | sort -u |
    while read -r path; do if [ -e "$root/$path" ] || [ -L "$root/$path" ]; then echo "$path"; fi; done |
    $as_root tar -C "$root" --no-recursion -c -T - > "$work/base.tar"
  tar -C "$record" --owner 0 --group 0 -rf "$work/base.tar" var/lib/dpkg/status.d
  "$docker" import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$work/base.tar" neocog-base > /dev/null
fi

# Wheels for SUITE's Python, which need not be this machine's.
version=$(basename "$(readlink "$root/usr/bin/python3")")
wheels=$work/wheels-$version${1:+-$1}
mkdir -p "$wheels"
requirements=$(python3 deploy/image/requirements.py "${extras[@]}"; printf '%s\n' setuptools pip)
unavailable() {
  [ "$python" != "$version" ] || same=
  echo "bases.sh: pip cannot get the wheels of ${extras[*]} for $version${same:+; SUITE=$same has $python, like this machine}" >&2
  exit 1
}
if [ "$python" = "$version" ]; then
  pip wheel -qq -w "$wheels" -c constraints.txt -r /dev/stdin <<< "$requirements" || unavailable # builds those that have no wheel
else
  platforms=(--platform "manylinux2014_$(uname -m)" --platform "linux_$(uname -m)")
  for glibc in 2_28 2_27 2_26 2_24 2_17 2_12 2_5; do platforms+=(--platform "manylinux_${glibc}_$(uname -m)"); done
  pip download -qq -d "$wheels" -c constraints.txt --only-binary=:all: --python-version "${version#python}" \
    "${platforms[@]}" -r /dev/stdin <<< "$requirements" || unavailable
fi
"$docker" build -q -t "$name" -f - "$wheels" > /dev/null <<END
FROM neocog-debian:$SUITE
COPY . /wheels
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
END
[ "${1:-}" != training ] || "$docker" tag "neocog-debian:$SUITE" neocog-runtime-training # last: both have one Python
echo "bases: $name, $SUITE with $version and $(find "$wheels" -name '*.whl' | wc -l) wheels"
