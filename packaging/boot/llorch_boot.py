"""Start llorch from its one file: find the unpacked release, put it on the path, run the app.

Theory of operation. Native libraries cannot be loaded out of a zip, so the wheels inside
llorch.pyz that fit this machine are unpacked once into a private cache folder, named by the hash
of what it holds. Every later start only has to find that folder: this module is all that runs then,
and it imports only `os`, `sys` and `fcntl` (loaded already, or in C), so that the file starts as
fast as a virtual environment does. Whatever is rarer (refusing a host, unpacking, pruning) lies in
modules that are read when they are needed.

A running process holds a shared lock on its release folder until it ends. Pruning takes the
exclusive one first, so a release that somebody runs is never removed.

The cache folder, first that works: $LLORCH_CACHE (then no other is tried), $XDG_CACHE_HOME/llorch,
~/.cache/llorch, /var/tmp/llorch-UID. It is used only when it is a real folder, ours, mode 0700.
"""

import fcntl
import os
import sys

# Both are written by the build: the release folder of every target in this file, and the version.
RELEASES: dict[str, str] = {}
VERSION = "0"

PYZ: str | None = None
"""Absolute path of the file that this process runs from. llorch/self_path.py reads it."""

EXIT_UNUSABLE = 78
"""EX_CONFIG of sysexits.h: this host, or its cache, cannot run this file."""

EXIT_INTERRUPTED = 130

PRUNE = "--prune-cache"


def run(pyz: str) -> None:
    """Run the command in `sys.argv` from the file `pyz`, and end the process with its exit code."""
    try:
        _run(pyz)
    except KeyboardInterrupt:  # while unpacking or importing: the app has its own answer to it
        sys.exit(EXIT_INTERRUPTED)


def _run(pyz: str) -> None:
    global PYZ
    PYZ = sys.argv[0] = pyz
    if sys.argv[1:2] == [PRUNE]:
        from llorch_prune import main

        sys.exit(main(sys.argv[2:]))
    enter(find_release(RELEASES.get(target(), "")) or _unpack(pyz), pyz)
    from llorch.__main__ import start

    sys.exit(start())


def target() -> str:
    """Return what this process needs wheels for, as "linux-x86_64-cp312", or "" for no such host.

    Asking the C library for its name costs nothing and keeps a musl system from using the release
    that a glibc system unpacked into a home folder that both of them mount.
    """
    system = {"linux": "linux", "darwin": "macos"}.get(sys.platform)
    if system is None or sys.implementation.name != "cpython" or "t" in sys.abiflags:
        return ""
    if system == "linux" and not glibc_version():
        return ""
    return f"{system}-{os.uname().machine}-cp{sys.version_info[0]}{sys.version_info[1]}"


def glibc_version() -> str:
    """Return "2.36", or "" where the C library is another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return ""
    return version if name == "glibc" else ""


def cache_folders() -> list[str]:
    """Return the folders to try, best first, as absolute paths."""
    override = os.environ.get("LLORCH_CACHE")
    if override:
        return [os.path.abspath(os.path.expanduser(override))]
    folders = [os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")]
    usable = [os.path.join(folder, "llorch") for folder in folders if os.path.isabs(folder)]
    return [*dict.fromkeys(usable), f"/var/tmp/llorch-{os.geteuid()}"]


def find_release(name: str) -> str | None:
    """Return the unpacked release folder `name`, held against pruning, or None."""
    for cache in cache_folders() if name else []:
        release = os.path.join(cache, "pyz", name)
        if is_private(cache) and hold(release):
            return release
    return None


def is_private(folder: str) -> bool:
    """Tell whether `folder` is a real folder, ours, that nobody else may enter."""
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return status.st_mode == 0o40700 and status.st_uid == os.geteuid()


def hold(release: str) -> bool:
    """Lock `release` as in use until this process ends; False where it is absent or being removed.

    The descriptor stays open on purpose: the kernel drops the lock with it, however we end.
    """
    try:
        folder = os.open(release, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        return False
    except OSError:
        pass  # a file system without locks: nothing is pruned there either
    return _is_still(release, folder)


def _is_still(release: str, folder: int) -> bool:
    """Between opening and locking, the folder may have been removed, or even made again."""
    try:
        return os.path.samestat(os.stat(release), os.fstat(folder))
    except OSError:
        return False


def enter(release: str, pyz: str) -> None:
    """Let imports come from `release` and the standard library, and from nowhere else.

    Packages of the host would be other versions of ours. A `.pth` file of the host may even have
    imported some already: those are forgotten. Byte code is kept beside the sources, since the
    folder is private, so that PYTHONDONTWRITEBYTECODE does not make every start slow.
    """
    host = [p for p in sys.path if p != pyz and "site-packages" not in p]
    sys.path[:] = [release, *(p for p in host if "dist-packages" not in p)]
    ours = set(os.listdir(release))
    for name in list(sys.modules):
        top = name.partition(".")[0]
        if top in ours or f"{top}.py" in ours:
            del sys.modules[name]
    sys.dont_write_bytecode = False


def _unpack(pyz: str) -> str:
    from llorch_refuse import Refused
    from llorch_unpack import prepare

    try:
        return prepare(pyz)
    except Refused as refused:
        sys.stderr.write(f"Error: {refused}\nTry: {refused.hint}\n")
        sys.exit(EXIT_UNUSABLE)
