"""Unpack this machine's wheels into the cache, once per release.

1. The host is refused in words where the file has no parts for it.
2. The cache folders are tried in order; an unusable one is remembered and the next is tried.
3. Under an exclusive lock: look again (another process may have been faster), remove what a killed
   process left, check the space, unpack into a temporary folder, rename it into place.

Renaming is atomic, so a release folder that exists is whole, whoever was killed when. Every
wheel is checked against the SHA-256 in the manifest before anything of it is written.
"""

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import llorch_boot
from llorch_refuse import CacheUnusable, Folder, Host, Refused, cache_reason, release_name

MANIFEST = "manifest.json"
LOCK = "pyz.lock"
TEMPORARY = ".tmp-"
FULL = (errno.ENOSPC, errno.EDQUOT)
SPARE_BYTES = 16 << 20
"""Room for folders, blocks half full and the byte code written later."""


@dataclass(frozen=True)
class Wheel:
    """One wheel inside the file, as the manifest names it."""

    member: str
    sha256: str
    unpacked_bytes: int


def prepare(pyz: str) -> str:
    """Return the release folder for this host, unpacked from `pyz` and held against pruning.

    Raises:
        Refused: unsupported host, damaged file, or no usable cache folder.
    """
    target = llorch_boot.target()
    name = release_name(Host.here(), target, llorch_boot.RELEASES)
    wheels = read_manifest(pyz, target)
    problems: list[CacheUnusable] = []
    for cache in llorch_boot.cache_folders():
        try:
            make_private(cache)
            return unpack(pyz, wheels, cache, name)
        except CacheUnusable as problem:
            problems.append(problem)
        except OSError as error:
            problems.append(unusable(cache, error))
    raise problems[0]


def read_manifest(pyz: str, target: str) -> list[Wheel]:
    """Return the wheels that `target` needs, in the order of the manifest."""
    try:
        with zipfile.ZipFile(pyz) as archive:
            targets: dict[str, list[dict[str, Any]]] = json.loads(archive.read(MANIFEST))["targets"]
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise damaged(pyz) from error
    return [Wheel(**entry) for entry in targets[target]]


def make_private(cache: str) -> None:
    """Make `cache` a folder of ours that nobody else may enter, or raise CacheUnusable."""
    os.makedirs(os.path.dirname(cache), mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(cache, mode=0o700)
    status = os.lstat(cache)
    noexec = bool(os.statvfs(cache).f_flag & getattr(os, "ST_NOEXEC", 0))
    reason = cache_reason(Folder(cache, status.st_mode, status.st_uid, os.geteuid(), noexec))
    if reason is not None:
        raise reason
    os.chmod(cache, 0o700)


def unpack(pyz: str, wheels: list[Wheel], cache: str, name: str) -> str:
    """Return the folder `cache`/pyz/`name`, made from `wheels` unless it is there already."""
    releases = os.path.join(cache, "pyz")
    release = os.path.join(releases, name)
    with locked(cache):
        if llorch_boot.hold(release):
            return release
        os.makedirs(releases, mode=0o700, exist_ok=True)
        remove_leftovers(releases)
        check_space(cache, wheels)
        fill(pyz, wheels, release)
        if not llorch_boot.hold(release):
            raise CacheUnusable(f"{release} vanished while it was made", "run it again")
    return release


@contextmanager
def locked(cache: str) -> Iterator[None]:
    """Hold the one lock of `cache`, waiting for whoever has it.

    Where the file system knows no locks the atomic rename alone keeps releases whole.
    """
    lock = os.open(os.path.join(cache, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def remove_leftovers(releases: str) -> None:
    """Remove the temporary folders of processes that were killed. The lock must be held."""
    for entry in os.listdir(releases):
        if entry.startswith(TEMPORARY):
            shutil.rmtree(os.path.join(releases, entry), ignore_errors=True)


def check_space(cache: str, wheels: list[Wheel]) -> None:
    """Raise Refused where `wheels` would not fit into the file system of `cache`."""
    system = os.statvfs(cache)
    free = system.f_bavail * system.f_frsize
    needed = sum(wheel.unpacked_bytes for wheel in wheels) + SPARE_BYTES
    if free < needed:
        raise no_space(cache, f"{needed >> 20} MB needed, {free >> 20} MB free")


def fill(pyz: str, wheels: list[Wheel], release: str) -> None:
    """Unpack `wheels` beside `release` and rename the whole into place."""
    _announce(wheels)
    temporary = tempfile.mkdtemp(prefix=TEMPORARY, dir=os.path.dirname(release))
    previous = os.umask(0o077)
    try:
        with zipfile.ZipFile(pyz) as archive:
            for wheel in wheels:
                extract(archive, pyz, wheel, temporary)
        os.rename(temporary, release)
    except OSError as error:
        if not os.path.isdir(release):  # else another process won, on a file system without locks
            raise unusable(os.path.dirname(release), error) from error
    finally:
        os.umask(previous)
        shutil.rmtree(temporary, ignore_errors=True)


def extract(archive: zipfile.ZipFile, pyz: str, wheel: Wheel, folder: str) -> None:
    """Check one wheel and write its files into `folder`.

    Raises:
        Refused: the wheel is not the one that was built in.
    """
    try:
        data = archive.read(wheel.member)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise damaged(pyz) from error
    if hashlib.sha256(data).hexdigest() != wheel.sha256:
        raise damaged(pyz)
    with zipfile.ZipFile(io.BytesIO(data)) as contents:
        contents.extractall(folder)


def damaged(pyz: str) -> Refused:
    """Return the refusal of a file that is not as it was built."""
    return Refused(f"{pyz} is damaged: what is in it is not what was built", "copy it again")


def no_space(cache: str, detail: str) -> CacheUnusable:
    """Return the refusal of a full disk."""
    hint = f"free space (llorch.pyz {llorch_boot.PRUNE} removes old releases), or set LLORCH_CACHE"
    return CacheUnusable(f"no space in the cache {cache}: {detail}", hint)


def unusable(cache: str, error: OSError) -> CacheUnusable:
    """Return the refusal of a folder that the system does not let us use."""
    if error.errno in FULL:
        return no_space(cache, "the disk is full")
    reason = error.strerror or str(error)
    return CacheUnusable(
        f"cannot write the cache {cache}: {reason}", "set LLORCH_CACHE to a folder of your own"
    )


def _announce(wheels: list[Wheel]) -> None:
    if sys.stderr.isatty():
        megabytes = sum(wheel.unpacked_bytes for wheel in wheels) >> 20
        sys.stderr.write(f"llorch {llorch_boot.VERSION}: unpacking {megabytes} MB, once\n")
