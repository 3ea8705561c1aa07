"""Which hosts and cache folders cannot be used, and the words for it.

`host_reason` is a pure function of `Host` (`Host.here()` reads the real one), `cache_reason` one of
`Folder`.
"""

import platform
import stat
import sys
from dataclasses import dataclass

import llorch_boot

GLIBC = (2, 28)
MACOS = (13, 0)
PYTHONS = [(3, minor) for minor in range(10, 14)]
MACHINES = {"linux": ("x86_64", "aarch64"), "darwin": ("arm64",)}
PLATFORMS = "Linux x86-64, Linux aarch64 and macOS arm64"


class Refused(Exception):
    """This host, or its cache, cannot run this file; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        """Take one line each, without a full stop."""
        super().__init__(message)
        self.hint = hint


class CacheUnusable(Refused):
    """One cache folder cannot be used; another one may do."""


@dataclass(frozen=True)
class Folder:
    """What decides whether a folder may hold our cache."""

    path: str
    mode: int
    """`st_mode` by lstat"""
    uid: int
    our_uid: int
    noexec: bool = False
    """Whether its file system was mounted so that libraries cannot be loaded from it."""


@dataclass(frozen=True)
class Host:
    """What decides whether this file has parts for a host."""

    system: str
    """`sys.platform`"""
    machine: str
    """`uname -m`"""
    python: tuple[int, int]
    implementation: str = "cpython"
    free_threaded: bool = False
    is_64_bit: bool = True
    glibc: str = ""
    """"2.36"; empty on Linux means another C library."""
    macos: str = ""
    """"14.5"; empty elsewhere."""

    @classmethod
    def here(cls) -> "Host":
        """Read the host of this process."""
        return cls(
            system=sys.platform,
            machine=platform.machine(),
            python=sys.version_info[:2],
            implementation=sys.implementation.name,
            free_threaded="t" in getattr(sys, "abiflags", ""),
            is_64_bit=sys.maxsize > 2**32,
            glibc=llorch_boot.glibc_version() if sys.platform == "linux" else "",
            macos=platform.mac_ver()[0],
        )


def host_reason(host: Host) -> Refused | None:
    """Return why this file has no parts for `host`, or None where it may have them."""
    return _python_reason(host) or _platform_reason(host) or _library_reason(host)


def cache_reason(folder: Folder) -> CacheUnusable | None:
    """Return why `folder` cannot be the cache, or None.

    A folder that others can read is no reason (the caller closes it to them); one that they
    could write into is: who knows what they put there.
    """
    hint = "set LLORCH_CACHE to a folder of your own"
    if not stat.S_ISDIR(folder.mode):
        return CacheUnusable(f"the cache {folder.path} is a link, or not a folder", hint)
    if folder.uid != folder.our_uid:
        return CacheUnusable(f"the cache {folder.path} belongs to another user", hint)
    if folder.mode & 0o022:
        fix = f"look what is in it, then: chmod 700 {folder.path}"
        return CacheUnusable(f"other users can write into the cache {folder.path}", fix)
    if folder.noexec:
        return CacheUnusable(f"the cache {folder.path} is on a file system mounted noexec", hint)
    return None


def release_name(host: Host, target: str, releases: dict[str, str]) -> str:
    """Return the release folder for `target`.

    Raises:
        Refused: the host is unsupported, or the file was built for other machines only.
    """
    reason = host_reason(host)
    if reason is not None:
        raise reason
    if target not in releases:
        raise Refused(
            f"this llorch.pyz was built for {', '.join(sorted(releases)) or 'nothing'} only, "
            f"this machine is {target}",
            "copy a llorch.pyz that build_pyz.sh made without --this-machine-only",
        )
    return releases[target]


def _python_reason(host: Host) -> Refused | None:
    hint = "run it with CPython 3.10, 3.11, 3.12 or 3.13"
    if host.implementation != "cpython":
        return Refused(f"llorch needs CPython, this is {host.implementation}", hint)
    if host.free_threaded:
        return Refused("llorch has no parts for free-threaded builds of Python", hint)
    if not host.is_64_bit:
        return Refused("llorch needs a 64-bit Python, this one is 32-bit", hint)
    if host.python not in PYTHONS:
        dotted = ".".join(map(str, host.python))
        return Refused(f"llorch needs Python 3.10 to 3.13, this is Python {dotted}", hint)
    return None


def _platform_reason(host: Host) -> Refused | None:
    if host.machine in MACHINES.get(host.system, ()):
        return None
    hint = f"use one of {PLATFORMS}"
    if host.system == "darwin":
        hint = "run it with a Python built for arm64, not under Rosetta"
    return Refused(
        f"llorch runs on {PLATFORMS}, this is {host.system} {host.machine}".rstrip(), hint
    )


def _library_reason(host: Host) -> Refused | None:
    if host.system == "linux" and not host.glibc:
        return Refused(
            "llorch needs the GNU C library, this system has another one (musl, as Alpine?)",
            "use a system or container with glibc 2.28 or later, such as Debian 12",
        )
    if host.system == "linux" and _numbers(host.glibc) < GLIBC:
        return Refused(
            f"llorch needs glibc 2.28 or later, this system has {host.glibc}",
            "use a newer system, such as Debian 10, RHEL 8, Ubuntu 20.04 or later",
        )
    if host.system == "darwin" and _numbers(host.macos) < MACOS:
        return Refused(f"llorch needs macOS 13 or later, this is {host.macos}", "update macOS")
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
