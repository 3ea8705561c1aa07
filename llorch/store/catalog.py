"""The models this machine knows: those that came with llorch and those its user registered."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llorch.errors import Conflict, ModelFileInvalid, ModelNotFound, UsageError
from llorch.store.builtin import BUILT_IN
from llorch.store.entries import (
    HuggingFace,
    LocalPath,
    ModelEntry,
    Source,
    Url,
    check_id,
    check_sha256,
    entry_from_dict,
    entry_to_dict,
)
from llorch.store.files import damaged, read_document, update_document
from llorch.store.hub_reference import MAIN, check_hub_source
from llorch.store.own_files import remove_own
from llorch.store.paths import data_dir
from llorch.wire.gguf import MAGIC
from llorch.wire.not_gguf import what_is_it

DEFAULT_MODEL = "smollm2-135m"
_VERSION = 1


def entries() -> tuple[ModelEntry, ...]:
    """Every model this machine knows: the built-in ones, then the user's in order of registering.

    Raises StoreFailed when the catalog file is damaged, newer than this llorch or unreadable.
    """
    path = _path()
    return _together(_registered(read_document(path, _VERSION), path))


def find(model_id: str) -> ModelEntry:
    """The entry of this id. Raises ModelNotFound (the hint has near matches) and StoreFailed."""
    known = {entry.id: entry for entry in entries()}
    if model_id in known:
        return known[model_id]
    near = get_close_matches(model_id.lower(), known, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
    raise ModelNotFound(f"no model {model_id!r} in the catalog of this machine", hint=hint)


def register(
    model_id: str,
    *,
    path: Path | None = None,
    repo: str | None = None,
    file: str | None = None,
    revision: str | None = None,
    url: str | None = None,
    sha256: str | None = None,
    name: str = "",
    licence: str = "",
) -> ModelEntry:
    """Add an entry with one source: a path, or a hub repository and file, or a URL.

    Raises UsageError (bad id, not exactly one source, bad repository, URL or hash), Conflict (the
    id is taken), ModelFileInvalid (the path is no readable file), StoreFailed and NoSpace.
    """
    check_id(model_id)
    source = _source(path, repo, file, revision, url)
    entry = ModelEntry(
        id=model_id,
        name=name or model_id,
        licence=licence,
        sources=(source,),
        size_bytes=Path(source.path).stat().st_size if isinstance(source, LocalPath) else None,
        sha256=check_sha256(sha256) if sha256 else None,
    )
    update_document(_path(), _VERSION, lambda body: _append(body, entry))
    return entry


def unregister(model_id: str) -> ModelEntry:
    """Forget an entry of the user's and return it.

    A file of the user's own and the hub's cache are not touched. A copy that llorch keeps for this
    id alone goes with it, or the next model of that id would be mistaken for it.

    Raises ModelNotFound, UsageError (the entry is built in), StoreFailed and NoSpace.
    """
    entry = find(model_id)
    if entry.built_in:
        raise UsageError(
            f"{model_id} came with llorch and cannot be unregistered",
            hint=f"to delete its file: llorch pool models remove {model_id}",
        )
    update_document(_path(), _VERSION, lambda body: _drop(body, model_id))
    remove_own(model_id)
    return entry


def _path() -> Path:
    return data_dir() / "catalog.json"


def _together(registered: tuple[ModelEntry, ...]) -> tuple[ModelEntry, ...]:
    # A later llorch may bring a model under an id that its user took before: the user's stays.
    taken = {entry.id for entry in registered}
    return tuple(entry for entry in BUILT_IN if entry.id not in taken) + registered


def _registered(body: dict[str, Any], path: Path) -> tuple[ModelEntry, ...]:
    try:
        found = tuple(entry_from_dict(model) for model in body.get("models", []))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path) from error
    return found


def _append(body: dict[str, Any], entry: ModelEntry) -> None:
    taken = _together(_registered(body, _path()))
    for other in taken:
        if other.id == entry.id:
            first = (
                "" if other.built_in else f", or first: llorch pool models unregister {other.id}"
            )
            raise Conflict(
                f"the catalog already has a model {other.id!r}", hint=f"choose another id{first}"
            )
    body.setdefault("models", []).append(entry_to_dict(entry))


def _drop(body: dict[str, Any], model_id: str) -> None:
    body["models"] = [model for model in body.get("models", []) if model["id"] != model_id]


def _source(
    path: Path | None, repo: str | None, file: str | None, revision: str | None, url: str | None
) -> Source:
    if sum(given is not None for given in (path, repo, url)) != 1:
        raise UsageError(
            "a model is registered with exactly one of a path, a repository and a URL",
            hint="--path FILE, or --repo ORG/NAME --file F, or --url URL",
        )
    if repo is None and (file or revision):
        raise UsageError("a file and a revision belong to a repository", hint="add --repo ORG/NAME")
    if path is not None:
        return _local(path)
    return Url(_checked_url(url)) if url is not None else _hub(repo or "", file, revision)


def _hub(repo: str, file: str | None, revision: str | None) -> HuggingFace:
    source = HuggingFace(repo, file or "", revision or MAIN)
    check_hub_source(source)
    return source


def _local(path: Path) -> LocalPath:
    absolute = path.expanduser().absolute()
    if not absolute.is_file():
        raise ModelFileInvalid(f"{absolute} is not a file", hint="give the path of a GGUF file")
    try:
        with absolute.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise ModelFileInvalid(f"cannot read {absolute}: {error.strerror}") from error
    if not start.startswith(MAGIC):
        found = what_is_it(start)
        raise ModelFileInvalid(f"{absolute}: {found.message}", hint=found.hint)
    return LocalPath(str(absolute))


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise UsageError(
            "the catalog keeps no passwords, and this URL has one in it",
            hint="fetch the file yourself and register its path",
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"{url!r} is no http or https URL", hint="give the whole URL of the file")
    return url
