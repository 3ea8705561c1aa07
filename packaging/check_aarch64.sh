#!/usr/bin/env bash
# Run the aarch64 part of a built llorch.pyz on an x86-64 machine, under user-mode emulation.
#
#   packaging/check_aarch64.sh [dist/llorch.pyz]
#
# Makes a small Debian tree for arm64 (half a minute, kept in ~/.cache/llorch-build), unpacks the
# file with the Python in it, and imports every package. Needs root on Debian, for debootstrap.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pyz=$(readlink -f "${1:-$here/../dist/llorch.pyz}")
cache=${LLORCH_BUILD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/llorch-build}
tree=$cache/debian-arm64

if ! command -v qemu-aarch64-static >/dev/null || ! command -v debootstrap >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        qemu-user-static debootstrap >/dev/null
fi

# Only the files are needed: the packages are unpacked, not configured, so nothing runs in the tree.
if [ ! -e "$tree/complete" ]; then
    rm -rf "$tree"
    mkdir -p "$cache"
    debootstrap --arch=arm64 --foreign --variant=minbase \
        --include=python3,libgomp1,libstdc++6 bookworm "$tree" >&2
    for deb in "$tree"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$deb" "$tree"; done
    touch "$tree/complete"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
emulated() {
    LLORCH_CACHE=$work/cache qemu-aarch64-static -L "$tree" "$tree/usr/bin/python3.11" -W ignore "$@"
}

emulated "$pyz" --version
emulated "$here/check_imports.py" "$work"/cache/pyz/*-linux-aarch64-cp311-*
