from __future__ import annotations

import errno
import io
import os
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from llorch.errors import NoSpace
from llorch.store import catalog, downloads, files, part_file, space
from tests.store.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.store.web import Web

DATA = os.urandom(2_000_000)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[bool]:
    """A file system of that size at `place`; False where this user may not mount one."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)


class Brimful(io.FileIO):
    """A real file on a disk with room for half a million bytes."""

    def __init__(self, path: Path, *_: object) -> None:
        super().__init__(path, "ab+")
        self._room = 500_000

    def write(self, block: Any) -> int:
        self._room -= len(block)
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(block)


def test_enough_space_is_no_word(tmp_path: Path) -> None:
    space.require_space(tmp_path / "not/there/yet", 1)


def test_a_disk_that_fills_up_in_mid_download_leaves_nothing_under_the_final_name(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No byte count from the server, so the check beforehand cannot know; where no small disk may
    # be mounted, the stream itself runs full.
    monkeypatch.setattr("tests.store.web._ranged", lambda content, headers: (200, {}, DATA))
    monkeypatch.setattr(space, "MARGIN_BYTES", -(10**9))
    with small_disk(tmp_path / "disk", "1m") as mounted:
        monkeypatch.setenv("LLORCH_HOME", str(tmp_path / "disk"))
        if not mounted:
            monkeypatch.setattr(part_file, "open_to_append", Brimful)
        entry = catalog.register("mine", url=web.serve("/x.gguf", DATA))
        with pytest.raises(NoSpace, match="the disk is full"):
            downloads.ensure(entry, Recorder())
        assert downloads.local_parts(entry) == ()


def test_a_catalog_on_a_full_disk_keeps_its_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with small_disk(tmp_path / "disk", "256k") as mounted:
        monkeypatch.setenv("LLORCH_HOME", str(tmp_path / "disk"))
        catalog.register("one", path=tmp_path / "x.gguf")
        if mounted:
            fill(tmp_path / "disk")
        else:
            monkeypatch.setattr(files, "open_new", Brimful)
        with pytest.raises(NoSpace):
            catalog.register("two", path=tmp_path / "x.gguf", name="n" * 600_000)
        assert [entry.id for entry in catalog.entries() if not entry.built_in] == ["one"]


def fill(folder: Path) -> None:
    ballast = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(ballast, b"x" * 4096):
            pass
    os.close(ballast)


@pytest.mark.parametrize(
    "size, words",
    [(5, "5 bytes"), (98_362_432, "98.4 MB"), (4_400_000_000, "4.4 GB"), (1500, "1.5 kB")],
)
def test_sizes_read_as_people_write_them(size: int, words: str) -> None:
    assert space.in_words(size) == words
