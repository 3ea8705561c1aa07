"""From the word a user writes after `--model` to a file on this machine.

word                                        means
smollm2-135m                                an id of the catalog
./x.gguf, /models/x.gguf, file:///x.gguf    a file: contains a separator or ends in .gguf
hf:org/repo[@rev][:file or quant], hf.co/…  a file on the Hugging Face hub
org/repo:Q4_K_M                             the same, where no such file is here
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from llorch.errors import Conflict, ModelFileInvalid, ModelNotFound, UsageError
from llorch.store import catalog, downloads
from llorch.store.entries import HuggingFace, LocalPath, ModelEntry, Source, describe
from llorch.store.files import locked, storage_errors
from llorch.store.hub_cache import cached_models, promised_sha256, remove_cached
from llorch.store.hub_reference import (
    is_hub_reference,
    is_short_reference,
    names_file,
    parse_hub_reference,
)
from llorch.store.own_files import remove_own

if TYPE_CHECKING:
    from llorch.store.progress import Progress

_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as a user named it. path is None until it is downloaded.

    name: the name a worker serves it under by default (catalog id, or the file's stem).
    """

    name: str
    entry: ModelEntry
    path: Path | None


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model whose file lies on this machine. size_bytes: of all its parts together.

    owned: llorch downloaded it, so `remove` may delete it; a file of the user's own is False.
    """

    entry: ModelEntry
    path: Path
    size_bytes: int
    owned: bool


class Verdict(str, Enum):
    """How the check of a file against its SHA-256 ended."""

    OK = "ok"
    DAMAGED = "damaged"
    MISSING = "missing"
    UNKNOWN = "unknown"  # the file is there, but nobody ever said what its SHA-256 should be


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What re-hashing found. expected and actual are SHA-256 in hex, None where unknown."""

    entry: ModelEntry
    verdict: Verdict
    path: Path | None
    expected: str | None
    actual: str | None


def resolve(model: str) -> ModelRef:
    """What the word means, without any network.

    1. a hub reference, 2. a path, 3. an id of the catalog. `org/repo:Q4_K_M` without a prefix is
    both, and means the file if there is one.
    Raises ModelNotFound (unknown id, with near matches), ModelFileInvalid (no such file),
    UsageError (malformed hub reference) and StoreFailed.
    """
    if is_hub_reference(model) or (is_short_reference(model) and not Path(model).exists()):
        return _reference(_hub_entry(parse_hub_reference(model)))
    if "://" in model and not model.startswith("file://"):
        raise UsageError(
            f"a URL is not fetched unless it is registered: {model.split('?', maxsplit=1)[0]}",
            hint="llorch pool models register ID --url URL",
        )
    if model.startswith("file://") or "/" in model or model.lower().endswith(".gguf"):
        return _reference(_file_entry(model))
    return _reference(catalog.find(model))


def fetch(ref: ModelRef, progress: Progress) -> Path:
    """The model's file, downloaded first where it is not here yet.

    Raises what `downloads.ensure` raises.
    """
    return downloads.ensure(ref.entry, progress)


def verify(entry: ModelEntry, progress: Progress) -> VerifyResult:
    """Hash the model's file again, all parts, and compare. Raises StoreFailed on a read error.

    Of a split model the part that is damaged is reported, or else the first.
    """
    parts = downloads.local_parts(entry)
    if not parts:
        return VerifyResult(entry, Verdict.MISSING, None, entry.sha256, None)
    progress.start(sum(_size(part) for part in parts), f"checking {entry.id}")
    checks = [_verify_part(entry, part, len(parts), progress) for part in parts]
    worst = [Verdict.DAMAGED, Verdict.UNKNOWN, Verdict.OK]
    return min(checks, key=lambda check: worst.index(check.verdict))


def installed() -> tuple[InstalledModel, ...]:
    """The models of the catalog whose file is here, then other GGUF files in the hub's cache."""
    known = [_installed(entry) for entry in catalog.entries()]
    found = [model for model in known if model is not None]
    taken = {model.path.resolve() for model in found}
    for source, parts in cached_models():
        if parts[0].resolve() not in taken:
            taken.add(parts[0].resolve())
            found.append(InstalledModel(_hub_entry(source), parts[0], _total(parts), owned=True))
    return tuple(found)


def remove(model: str) -> int:
    """Delete what llorch downloaded for the model and return the bytes freed; the entry stays.

    Raises ModelNotFound (also when it is not downloaded), UsageError (the file is the user's own),
    Conflict (a process is downloading it) and StoreFailed.
    """
    ref = resolve(model)
    if any(isinstance(source, LocalPath) for source in ref.entry.sources):
        raise UsageError(
            f"the file of {model} is your own, llorch does not delete it",
            hint=f"to forget it: llorch pool models unregister {model}",
        )
    here = ref.path is not None

    def refuse() -> None:
        raise Conflict(f"{model} is being downloaded right now", hint="wait for it, or stop it")

    with locked(downloads.lock_place(ref.entry), on_wait=refuse):
        freed = sum(_remove_from(ref.entry, source) for source in ref.entry.sources)
    if not (here or freed):
        raise ModelNotFound(f"{model} is not downloaded here", hint="llorch pool models list")
    return freed


def _reference(entry: ModelEntry) -> ModelRef:
    parts = downloads.local_parts(entry)
    if not parts and isinstance(entry.sources[0], LocalPath):
        raise _no_file(Path(entry.sources[0].path))
    return ModelRef(
        entry.name if _has_no_id(entry) else entry.id, entry, parts[0] if parts else None
    )


def _no_file(path: Path) -> ModelFileInvalid:
    if path.is_dir():
        return ModelFileInvalid(f"{path} is a folder", hint="name the .gguf file in it")
    return ModelFileInvalid(
        f"there is no file {path}",
        hint="check the path (a hub model is written hf:org/repo); models known by name: "
        "llorch pool models catalog",
    )


def _has_no_id(entry: ModelEntry) -> bool:
    return entry.id == describe(entry.sources[0])


def _hub_entry(source: HuggingFace) -> ModelEntry:
    name = Path(source.file).stem if names_file(source.file) else source.repo.split("/")[1]
    return ModelEntry(id=describe(source), name=name, sources=(source,))


def _file_entry(word: str) -> ModelEntry:
    named = unquote(urlsplit(word).path) if word.startswith("file://") else word
    path = Path(named).expanduser().absolute()
    return ModelEntry(id=str(path), name=path.stem, sources=(LocalPath(str(path)),))


def _verify_part(entry: ModelEntry, part: Path, count: int, progress: Progress) -> VerifyResult:
    expected = entry.sha256 if entry.sha256 and count == 1 else promised_sha256(part)
    actual = _sha256(part, progress)
    if expected is None:
        return VerifyResult(entry, Verdict.UNKNOWN, part, None, actual)
    verdict = Verdict.OK if actual == expected else Verdict.DAMAGED
    return VerifyResult(entry, verdict, part, expected, actual)


def _sha256(path: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    with storage_errors(path, "read"), path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            progress.advance(len(block))
    return digest.hexdigest()


def _installed(entry: ModelEntry) -> InstalledModel | None:
    for source in entry.sources:
        parts = downloads.parts_at(entry, source)
        if parts:
            owned = not isinstance(source, LocalPath)
            return InstalledModel(entry, parts[0], _total(parts), owned)
    return None


def _total(parts: tuple[Path, ...]) -> int:
    return sum(_size(part) for part in parts)


def _size(path: Path) -> int:
    with storage_errors(path, "read"):
        return path.stat().st_size


def _remove_from(entry: ModelEntry, source: Source) -> int:
    return remove_cached(source) if isinstance(source, HuggingFace) else remove_own(entry.id)
