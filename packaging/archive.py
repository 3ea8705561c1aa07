"""Write zip files whose bytes depend on their contents alone, and the file llorch.pyz.

Names are sorted, times come from SOURCE_DATE_EPOCH, modes are fixed. The outer file stores its
wheels without compressing them again: they are compressed already, and the fewer names the
outer directory has, the faster Python starts from it.
"""

import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

BOOT = Path(__file__).parent / "boot"
EARLIEST = 315532800
"""1980-01-01 in seconds since 1970: a zip file knows no earlier time."""

HEAD = (
    b"#!/usr/bin/env python3\n"
    b"# This is llorch, a zip archive that Python runs. If Python calls it a syntax error, then\n"
    b"# this copy is incomplete: copy it again.\n"
)

Entry = tuple[str, bytes]


@dataclass(frozen=True)
class Part:
    """One wheel that goes into the file."""

    filename: str
    data: bytes
    locked_sha256: str = ""
    """What the lock says; differs from the hash of `data` where the wheel was made smaller."""

    @cached_property
    def sha256(self) -> str:
        """Return the hash of what is carried."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def member(self) -> str:
        """Return its name inside the file: two systems may carry one wheel cut differently."""
        return f"wheels/{self.sha256[:8]}/{self.filename}"

    def unpacked_bytes(self) -> int:
        """Return the size of its files, unpacked."""
        with zipfile.ZipFile(io.BytesIO(self.data)) as wheel:
            return sum(info.file_size for info in wheel.infolist())


def zip_bytes(entries: Iterable[Entry], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip file of `entries` (name, contents), in the order of their names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in sorted(entries):
            _write(archive, name, data, compression)
    return buffer.getvalue()


def app_wheel(root: Path, version: str) -> Part:
    """Return llorch/ of the checkout `root` as a wheel.

    It is stored, not compressed: its bytes then do not depend on the zlib of the machine.
    """
    info = f"llorch-{version}.dist-info"
    entries = [(path.relative_to(root).as_posix(), path.read_bytes()) for path in _sources(root)]
    entries += [
        (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: llorch\nVersion: {version}\n".encode()),
        (f"{info}/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
    ]
    licence = root / "LICENSE"
    if licence.exists():
        entries.append((f"{info}/licenses/LICENSE", licence.read_bytes()))
    return Part(f"llorch-{version}-py3-none-any.whl", zip_bytes(entries, zipfile.ZIP_STORED))


def write_pyz(output: Path, version: str, targets: Mapping[str, Sequence[Part]]) -> None:
    """Write the runnable file: boot code, manifest, each wheel once. It appears whole or not."""
    releases = {name: release_name(version, name, parts) for name, parts in targets.items()}
    members = [*_boot_entries(version, releases), ("manifest.json", _manifest(version, targets))]
    wheels = {part.member: part.data for parts in targets.values() for part in parts}
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(HEAD)
            with zipfile.ZipFile(file, "w") as archive:
                for name, data in [*members, *sorted(wheels.items())]:
                    _write(archive, name, data, zipfile.ZIP_STORED)
        temporary.chmod(0o755)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)


def release_name(version: str, target: str, parts: Sequence[Part]) -> str:
    """Return the cache folder of one target: named by the hash of all that goes into it."""
    content = "".join(f"{part.sha256}\n" for part in parts)
    return f"{version}-{target}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _boot_entries(version: str, releases: Mapping[str, str]) -> list[Entry]:
    """Return the boot modules, the table of releases written into the one that every start runs."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in BOOT.glob("*.py")}
    boot = texts["llorch_boot.py"]
    for old, new in (
        ("RELEASES: dict[str, str] = {}\n", f"RELEASES: dict[str, str] = {dict(releases)!r}\n"),
        ('VERSION = "0"\n', f"VERSION = {version!r}\n"),
    ):
        if boot.count(old) != 1:
            raise ValueError(f"llorch_boot.py must have the line {old.strip()!r} once")
        boot = boot.replace(old, new)
    texts["llorch_boot.py"] = boot
    return sorted((name, text.encode()) for name, text in texts.items())


def _manifest(version: str, targets: Mapping[str, Sequence[Part]]) -> bytes:
    """Return what is inside: per target for the boot code, per wheel where it came from."""
    parts = {part.member: part for wheels in targets.values() for part in wheels}
    sizes = {member: part.unpacked_bytes() for member, part in parts.items()}
    manifest = {
        "version": version,
        "targets": {
            name: [
                {"member": p.member, "sha256": p.sha256, "unpacked_bytes": sizes[p.member]}
                for p in wheels
            ]
            for name, wheels in targets.items()
        },
        "locked_sha256": {m: p.locked_sha256 for m, p in parts.items() if p.locked_sha256},
    }
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def _sources(root: Path) -> list[Path]:
    """Return the app's own files: what an editor or Python leaves behind is not among them."""
    return sorted(
        path
        for path in (root / "llorch").rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def _write(archive: zipfile.ZipFile, name: str, data: bytes, compression: int) -> None:
    info = zipfile.ZipInfo(name, moment())
    info.external_attr = 0o100644 << 16
    info.create_system = 3  # Unix, whatever builds it
    archive.writestr(info, data, compression, 9)


def moment() -> tuple[int, int, int, int, int, int]:
    """Return the one time that every entry carries, in UTC."""
    seconds = max(int(os.environ.get("SOURCE_DATE_EPOCH", EARLIEST)), EARLIEST)
    return time.gmtime(seconds)[:6]
