"""How people write a file of the Hugging Face hub, read into one form.

hf:org/repo                      hf://org/repo                 llorch chooses the file
hf:org/repo:Q4_K_M               hf.co/org/repo:Q4_K_M         by quantisation
org/repo:Q4_K_M                                                the same, where no file is meant
hf:org/repo@rev:sub/x.gguf       hf:org/repo@rev::file=x.gguf  by name
huggingface.co/org/repo/blob/rev/x.gguf                        the address in a browser
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from llorch.errors import UsageError
from llorch.store.entries import HuggingFace

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX = re.compile(r"(?:hf://|hf:|(?:https?://)?(?:hf\.co|huggingface\.co)/)", re.IGNORECASE)
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_PAGE = re.compile(r"(?P<repo>[^/]+/[^/]+)/(?:blob|resolve)/(?P<revision>[^/]+)/(?P<file>[^?#]+)")
_SHORT = re.compile(r"(?P<repo>[^@:]+?)/?(?:@(?P<revision>[^:]+))?(?::(?::file=)?(?P<file>[^:]*))?")
_QUANTISATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_HINT = "write hf:org/repo, hf:org/repo:Q4_K_M or hf:org/repo@revision:file.gguf"
MAIN = "main"
DEFAULT_QUANTISATION = "Q4_K_M"


def is_hub_reference(text: str) -> bool:
    """Whether the text means the hub at all, well written or not."""
    return _PREFIX.match(text) is not None


def is_short_reference(text: str) -> bool:
    """Whether the text could be `org/repo:QUANT`, which could be a relative path just as well."""
    repo, _, quantisation = text.partition(":")
    return _REPO.fullmatch(repo) is not None and _QUANTISATION.fullmatch(quantisation) is not None


def parse_hub_reference(text: str) -> HuggingFace:
    """The repository, revision and file or quantisation meant. Raises UsageError."""
    rest = _PREFIX.sub("", text, count=1)
    match = _PAGE.fullmatch(rest.split("?")[0]) or _SHORT.fullmatch(rest)
    if match is None:
        raise UsageError(f"{text!r} is no reference to the Hugging Face hub", hint=_HINT)
    source = HuggingFace(match["repo"], unquote(match["file"] or ""), match["revision"] or MAIN)
    check_hub_source(source)
    return source


def check_hub_source(source: HuggingFace) -> None:
    """Raises UsageError where repository, revision or file cannot be right."""
    if not _REPO.fullmatch(source.repo) or ".." in source.repo:
        raise UsageError(f"{source.repo!r} is no repository of the hub", hint=_HINT)
    if not _REVISION.fullmatch(source.revision) or ".." in source.revision:
        raise UsageError(f"{source.revision!r} is no revision", hint=_HINT)
    if not source.file or _QUANTISATION.fullmatch(source.file):
        return
    parts = source.file.split("/")
    if not names_file(source.file) or any(part in {"", ".", ".."} for part in parts):
        raise UsageError(f"{source.file!r} is no GGUF file or quantisation", hint=_HINT)


def names_file(word: str) -> bool:
    """Whether the word names a file rather than a quantisation."""
    return word.lower().endswith(".gguf")


def choose_file(files: Iterable[str], wanted: str) -> str | None:
    """The GGUF among `files` that `wanted` (a quantisation or "") means; None where there is none.

    1. a projector (mmproj) is no model, and of a split model only the first part counts
    2. a quantisation that was named must be there
    3. otherwise Q4_K_M, and else the first in the order of names
    """
    models = sorted(name for name in files if names_file(name) and _leads(name))
    quantised = [name for name in models if _has_quantisation(name, wanted or DEFAULT_QUANTISATION)]
    if quantised or wanted:
        return quantised[0] if quantised else None
    return models[0] if models else None


def parts_of(file: str) -> tuple[str, ...]:
    """All files of the model that `file` belongs to, the first part first; itself if not split."""
    match = _SHARD.search(file)
    if match is None:
        return (file,)
    stem, count = file[: match.start()], int(match[2])
    return tuple(f"{stem}-{part:05d}-of-{count:05d}.gguf" for part in range(1, count + 1))


def _leads(name: str) -> bool:
    base = name.rsplit("/", 1)[-1].lower()
    return not base.startswith("mmproj") and name == parts_of(name)[0]


def _has_quantisation(name: str, quantisation: str) -> bool:
    pattern = rf"(?:^|[-._/]){re.escape(quantisation)}(?:[-./]|$)"
    return re.search(pattern, name, re.IGNORECASE) is not None
