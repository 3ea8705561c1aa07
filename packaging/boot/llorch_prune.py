"""`llorch.pyz --prune-cache`: remove the releases in the cache that nobody uses.

The releases of this very file stay (for every Python of this machine), and so does each one that
a running process holds locked. The cache's own lock is held meanwhile, so nothing is being
unpacked; a release that is removed is renamed first, so no process can start from half of one.
"""

import fcntl
import os
import shutil
import sys

import llorch_boot
from llorch_unpack import TEMPORARY, locked, remove_leftovers


def main(arguments: list[str]) -> int:
    """Prune every cache folder of this user and say what went; return the exit code."""
    if arguments:
        sys.stderr.write(f"Error: {llorch_boot.PRUNE} takes no arguments\nTry: leave them out\n")
        return 2
    freed = sum(prune(cache) for cache in llorch_boot.cache_folders())
    print(f"freed {freed / 1e6:.0f} MB")
    return 0


def prune(cache: str) -> int:
    """Remove what `cache` need not hold any more and return how many bytes that were."""
    releases = os.path.join(cache, "pyz")
    if not llorch_boot.is_private(cache) or not os.path.isdir(releases):
        return 0
    freed = 0
    with locked(cache):
        remove_leftovers(releases)
        for name in sorted(set(os.listdir(releases)) - set(llorch_boot.RELEASES.values())):
            freed += remove(releases, name)
    return freed


def remove(releases: str, name: str) -> int:
    """Remove one release unless it is in use; return the bytes freed."""
    release = os.path.join(releases, name)
    folder = os.open(release, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"kept {name}: in use")
        return 0
    else:
        size = size_of(release)
        doomed = os.path.join(releases, f"{TEMPORARY}{name}")
        os.rename(release, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        print(f"removed {name}: {size / 1e6:.0f} MB")
        return size
    finally:
        os.close(folder)


def size_of(folder: str) -> int:
    """Return the bytes that the files under `folder` take."""
    return sum(
        os.lstat(os.path.join(path, file)).st_size
        for path, _, files in os.walk(folder)
        for file in files
    )
