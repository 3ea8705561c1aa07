"""From the word a user writes after `--model` to a file on this machine.

word                                        means
smollm2-135m                                an id of the catalog
./x.gguf, /models/x.gguf, file:///x.gguf    a file: contains a separator or ends in .gguf
hf:org/repo[@rev][:file or quant], hf.co/…  a file on the Hugging Face hub
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from llorch.store.entries import ModelEntry
from llorch.store.progress import Progress


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

    Raises ModelNotFound (unknown id, with near matches), ModelFileInvalid (no such file),
    UsageError (malformed hub reference) and StoreFailed.
    """
    raise NotImplementedError


def fetch(ref: ModelRef, progress: Progress) -> Path:
    """The model's file, downloaded first where it is not here yet.

    Raises what `downloads.ensure` raises.
    """
    raise NotImplementedError


def verify(entry: ModelEntry, progress: Progress) -> VerifyResult:
    """Hash the model's file again, all parts, and compare. Raises StoreFailed on a read error."""
    raise NotImplementedError


def installed() -> tuple[InstalledModel, ...]:
    """The models of the catalog whose file is here, then other GGUF files in the hub's cache."""
    raise NotImplementedError


def remove(model: str) -> int:
    """Delete what llorch downloaded for the model and return the bytes freed; the entry stays.

    Raises ModelNotFound (also when it is not downloaded), UsageError (the file is the user's own)
    and StoreFailed.
    """
    raise NotImplementedError
