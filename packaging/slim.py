"""Make wheels smaller without changing what they do.

1. Linux libraries lose their symbol tables and debug information (two thirds of xllamacpp).
   macOS libraries are left alone: a change would break their signatures.
2. ctransformers ships libraries for every system in one wheel: only the target's stay.
3. Type stubs and tests of a wheel that is rewritten anyway go too.

A wheel that would hardly shrink stays as published, byte for byte. Metadata and licences always
stay. The results are cached by the wheel's hash, this recipe's and the version of strip.
"""

import base64
import fnmatch
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import archive
from archive import Entry, Part, zip_bytes
from fetch import progress, sha256_of

WORTH_BYTES = 32 << 10
ELF = b"\x7fELF"

STUBS_AND_TESTS = ("*.pyi", "*/tests/*", "*/test/*")
CTRANSFORMERS_LIBRARIES = {
    "linux-x86_64": ("*.so",),
    "linux-aarch64": (),
    "macos-arm64": ("*/basic/*.dylib",),  # the only one that is built for arm64 too
}
CUDA = ("*/lib/cuda/*",)


@functools.cache
def slim(wheel: Path, system: str, cache: Path) -> Part:
    """Return `wheel` as it goes into the file for `system`."""
    locked = sha256_of(wheel)
    strip = find_strip(system)
    kept = cache / "slim" / _recipe(locked, system, strip) / wheel.name
    if not kept.exists():
        data = _smaller(wheel, system, strip)
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(kept)
    return Part(wheel.name, kept.read_bytes(), locked)


def find_strip(system: str) -> str | None:
    """Return the strip command for the ELF files of `system`, or None (always for macOS)."""
    kind, _, arch = system.partition("-")
    if kind != "linux":
        return None
    native = sys.platform == "linux" and platform.machine() == arch
    names = [f"{arch.replace('_', '-')}-linux-gnu-strip", f"{arch}-linux-gnu-strip", "llvm-strip"]
    found = (shutil.which(name) for name in (["strip"] if native else []) + names)
    return next((path for path in found if path), None)


def _recipe(locked: str, system: str, strip: str | None) -> str:
    """Return the hash of all that decides how a wheel comes out."""
    code = [Path(__file__), Path(archive.__file__)]
    tool = _version(strip) if strip else "no strip"
    facts = [locked, system, tool, str(archive.moment()), *(path.read_text() for path in code)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


@functools.cache
def _version(strip: str) -> str:
    return subprocess.run([strip, "--version"], capture_output=True, text=True, check=True).stdout


def _smaller(wheel: Path, system: str, strip: str | None) -> bytes:
    """Return the bytes of the rewritten wheel, or the original ones where little is won."""
    with zipfile.ZipFile(wheel) as whole:
        names = [name for name in whole.namelist() if not name.endswith("/")]
        entries = [(name, whole.read(name)) for name in names if not _dropped(name, system)]
    stripped = [(name, _stripped(data, strip)) for name, data in entries]
    original = wheel.read_bytes()
    rewritten = zip_bytes(_with_record(stripped))
    if len(original) - len(rewritten) < WORTH_BYTES:
        return original
    progress(f"{wheel.name}: {len(original) / 1e6:.1f} MB -> {len(rewritten) / 1e6:.1f} MB")
    return rewritten


def _dropped(name: str, system: str) -> bool:
    if ".dist-info/" in name:
        return False
    if _matches(name, STUBS_AND_TESTS):
        return True
    if not name.startswith("ctransformers/lib/"):
        return False
    return _matches(name, CUDA) or not _matches(name, CTRANSFORMERS_LIBRARIES[system])


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _stripped(data: bytes, strip: str | None) -> bytes:
    if strip is None or not data.startswith(ELF):
        return data
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library.so"
        library.write_bytes(data)
        subprocess.run([strip, "--strip-unneeded", str(library)], check=True)
        return library.read_bytes()


def _with_record(entries: list[Entry]) -> list[Entry]:
    """Return `entries` with RECORD written anew for what is left of them."""
    (record,) = [name for name, _ in entries if name.endswith(".dist-info/RECORD")]
    rest = sorted((name, data) for name, data in entries if name != record)
    lines = [f"{name},sha256={urlsafe_sha256(data)},{len(data)}" for name, data in rest]
    text = "\n".join([*lines, f"{record},,", ""])
    return [*rest, (record, text.encode())]


def urlsafe_sha256(data: bytes) -> str:
    """Return the hash of `data` in the form that RECORD has it."""
    digest = hashlib.sha256(data).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
