#!/usr/bin/env bash
# Build dist/llorch.pyz: one file for Linux x86-64, Linux aarch64 and macOS arm64, CPython 3.10-3.13.
#
#   ./build_pyz.sh [--this-machine-only] [--output PATH]
#
# Needs a Python from 3.10 to 3.13 with pip (PYTHON names it, default python3) and, to make Linux
# libraries small, strip for both processors: as root on Debian it is installed when missing.
# Downloads are kept in ~/.cache/llorch-build (or LLORCH_BUILD_CACHE): a second build needs no network.
# The same checkout gives the same bytes, with any of these Pythons; SOURCE_DATE_EPOCH sets the
# time that the file's entries carry.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
umask 022
export LC_ALL=C TZ=UTC PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || {
    printf 'Error: %s is not Python 3.10 to 3.13\nTry: PYTHON=python3.12 %s\n' "$python" "$0" >&2
    exit 1
}

# strip_for PACKAGE COMMAND: make sure of a strip command, where that is in our hands.
strip_for() {
    command -v "$2" >/dev/null && return 0
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 0
    echo "installing $1" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
        --no-install-recommends "$1" >/dev/null; } >&2 || echo "could not install $1" >&2
}

if [ "$(uname -s)" = Linux ]; then
    strip_for binutils strip
    case "$(uname -m) $*" in
        *--this-machine-only*) ;;
        x86_64*) strip_for binutils-aarch64-linux-gnu aarch64-linux-gnu-strip ;;
        aarch64*) strip_for binutils-x86-64-linux-gnu x86_64-linux-gnu-strip ;;
    esac
fi
exec "$python" -s "$root/packaging/build_pyz.py" "$@"
