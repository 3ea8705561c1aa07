#!/usr/bin/env bash
# Check everything: format, lint, types, unit tests, the built file, end-to-end tests.
#
#   ./check.sh          all of it
#   ./check.sh --fast   without the build and the end-to-end tests
#   ./check.sh --env    only make .venv-check, the environment that the tests run in
#
# The environment holds the exact versions of packaging/locks/dev.txt, checked by hash. PYTHON names
# the interpreter (default python3). As root on Debian, missing system packages are installed;
# elsewhere they are named and the checks that need them fail with words.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec </dev/null

mode=${1:-all}
python=${PYTHON:-python3}
venv=.venv-check
lock=packaging/locks/dev.txt
export HOME="${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}"
export PIP_DISABLE_PIP_VERSION_CHECK=1 LC_ALL=C.UTF-8

fail() { printf 'Error: %s\nTry: %s\n' "$1" "$2" >&2; exit 1; }

# step NAME COMMAND...: run it, say how long it took, stop at the first that fails.
step() {
    local name=$1 started=$SECONDS status=0
    shift
    printf '\n== %s\n' "$name"
    "$@" || status=$?
    if [ "$status" -ne 0 ]; then
        printf '== %s FAILED after %s s (exit code %s)\n' "$name" $((SECONDS - started)) "$status"
        exit "$status"
    fi
    printf '== %s: ok, %s s\n' "$name" $((SECONDS - started))
}

# debian PACKAGE PROOF...: make sure of a system package; the command PROOF tells if it is there.
debian() {
    local package=$1
    shift
    if "$@" >/dev/null 2>&1; then return 0; fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing: $package (install it, or the checks that need it will fail)"
        return 0
    fi
    apt-get update -qq || echo "apt-get update failed: trying with the lists that are there"
    if DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        "$package" >/dev/null; then
        echo "installed $package"
    else
        echo "could not install $package: the checks that need it will fail"
    fi
}

has_libgomp() { "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")'; }

system_packages() {
    [ "$(uname -s)" = Linux ] || { echo "not Linux: nothing to do"; return 0; }
    debian libgomp1 has_libgomp
    debian openssh-server test -x /usr/sbin/sshd
    debian openssh-client command -v ssh
    debian curl command -v curl
}

new_venv() {
    rm -rf "$venv"
    "$python" -m venv "$venv" >/dev/null 2>&1 && return 0
    debian python3-venv false
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "$python cannot make a virtual environment" \
        "install its venv and ensurepip (Debian: apt-get install python3-venv), or set PYTHON"
}

environment() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$python is older than Python 3.10" "PYTHON=/path/to/python3.10 ./check.sh"
    local want
    want="$("$python" -VV) $(cksum <"$lock")"
    if [ "$(cat "$venv/stamp" 2>/dev/null)" = "$want" ]; then echo "$venv is up to date"; return 0; fi
    new_venv
    "$venv/bin/python" -m pip install -qq --require-hashes --no-deps --only-binary :all: -r "$lock"
    echo "$want" >"$venv/stamp"
}

# Several checks may start at once in one checkout: one of them makes the environment.
environment_alone() {
    if ! command -v flock >/dev/null; then environment; return; fi
    (flock 9; environment) 9>"$venv.lock"
}

run() { "$venv/bin/python" -m "$@"; }

case $mode in all | --fast | --env) ;; *) fail "unknown option $mode" "./check.sh [--fast|--env]" ;; esac
step "environment" environment_alone
[ "$mode" = --env ] && exit 0
step "system packages" system_packages
step "format" run ruff format --check --quiet
step "lint" run ruff check --quiet
step "types" run mypy
step "unit tests" run pytest -q -m "not e2e"
[ "$mode" = --fast ] && exit 0
step "build" env PYTHON="$PWD/$venv/bin/python" ./build_pyz.sh
step "end-to-end tests" run pytest -q -m e2e
printf '\nall checks passed in %s s\n' "$SECONDS"
