"""`llorch pool models`: the model catalog of this machine and the files that lie on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llorch.cli.complete import model_ids
from llorch.cli.lazy import new_app
from llorch.cli.options import Json, option
from llorch.cli.render import print_json, print_table, say, size
from llorch.cli.style import is_terminal
from llorch.errors import ChecksumMismatch, LlorchError, ModelFileInvalid, UsageError

if TYPE_CHECKING:
    from llorch.store.entries import ModelEntry, Source
    from llorch.store.models import VerifyResult

app = new_app()

ModelId = Annotated[
    str, typer.Argument(metavar="ID", help="As catalog shows it.", autocompletion=model_ids)
]


@app.callback()
def models() -> None:
    """The model catalog and files of this machine."""


@app.command()
def catalog(json: Json = False) -> None:
    """List every model this machine knows, downloaded or not."""
    from llorch.store import catalog as store_catalog
    from llorch.store.models import installed

    here = {found.entry.id for found in installed()}
    entries = store_catalog.entries()
    if json:
        print_json([_facts(entry) | {"downloaded": entry.id in here} for entry in entries])
        return
    rows = [
        (
            e.id,
            "yes" if e.id in here else "no",
            size(e.size_bytes),
            e.quantisation,
            e.licence,
            e.name,
        )
        for e in entries
    ]
    print_table(("ID", "HERE", "SIZE", "QUANT", "LICENCE", "NAME"), rows)


def _facts(entry: "ModelEntry") -> dict[str, Any]:
    """The JSON form of a catalog entry."""
    return {
        "id": entry.id,
        "name": entry.name,
        "licence": entry.licence,
        "architecture": entry.architecture,
        "quantisation": entry.quantisation,
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
        "built_in": entry.built_in,
        "sources": [_source(source) for source in entry.sources],
    }


def _source(source: "Source") -> dict[str, Any]:
    from dataclasses import asdict

    kinds = {"PyPiWheel": "pypi", "HuggingFace": "hf", "Url": "url", "LocalPath": "path"}
    return {"kind": kinds[type(source).__name__], **asdict(source)}


@app.command("list")
def list_models(json: Json = False) -> None:
    """List the models whose file is on this machine."""
    from llorch.store.models import installed

    found = installed()
    if json:
        print_json(
            [
                _facts(m.entry)
                | {"path": str(m.path), "size_bytes": m.size_bytes, "owned": m.owned}
                for m in found
            ]
        )
        return
    if not found:
        say("no models yet; get one: llorch pool models download smollm2-135m")
        return
    rows = [(m.entry.id, size(m.size_bytes), m.entry.quantisation, str(m.path)) for m in found]
    print_table(("ID", "SIZE", "QUANT", "PATH"), rows)


@app.command()
def download(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...",
            help="Catalog ids, or hf:org/repo[@rev][:file or quant].",
            autocompletion=model_ids,
        ),
    ],
    json: Json = False,
) -> None:
    """Fetch models; what was begun is resumed.

    What is here already is not fetched again.
    """
    from llorch.cli.progress import shown_progress
    from llorch.store.models import fetch, resolve

    done = []
    for found in [resolve(model) for model in models]:
        with shown_progress() as progress:
            path = fetch(found, progress)
        done.append({"id": found.name, "path": str(path)})
        if not json:
            print(f"{found.name}  {path}")
    if json:
        print_json(done)


REGISTER_EXAMPLES = """\b
Examples:
    llorch pool models register my --path ./my.gguf
    llorch pool models register my --repo org/name-GGUF --file Q4_K_M
"""


@app.command(epilog=REGISTER_EXAMPLES)
def register(
    model_id: Annotated[str, typer.Argument(metavar="ID", help="The id it will have.")],
    path: Annotated[
        Path | None, option("--path", metavar="FILE", help="A GGUF file, used in place.")
    ] = None,
    repo: Annotated[
        str | None, option("--repo", metavar="ORG/NAME", help="A Hugging Face repository.")
    ] = None,
    file: Annotated[
        str | None,
        option("--file", metavar="FILE", help="With --repo: its file, or a quant like Q4_K_M."),
    ] = None,
    revision: Annotated[
        str | None, option("--revision", metavar="REV", help="With --repo: branch or commit.")
    ] = None,
    url: Annotated[
        str | None, option("--url", metavar="URL", help="An http or https URL of a GGUF file.")
    ] = None,
    sha256: Annotated[
        str | None, option("--sha256", metavar="HEX", help="What its SHA-256 must be.")
    ] = None,
    name: Annotated[str, option("--name", metavar="NAME", help="A name for people.")] = "",
    licence: Annotated[str, option("--licence", metavar="NAME", help="Its licence.")] = "",
    json: Json = False,
) -> None:
    """Add a model to the catalog of this machine.

    Say where it is with one of --path, --repo or --url.
    """
    from llorch.store import catalog as store_catalog

    entry = store_catalog.register(
        model_id,
        path=path,
        repo=repo,
        file=file,
        revision=revision,
        url=url,
        sha256=sha256,
        name=name,
        licence=licence,
    )
    if json:
        print_json(_facts(entry))
    else:
        print(f"{entry.id}  registered")


@app.command()
def unregister(model_id: ModelId, json: Json = False) -> None:
    """Forget a registered model; your own file stays."""
    from llorch.store import catalog as store_catalog

    entry = store_catalog.unregister(model_id)
    if json:
        print_json(_facts(entry))
    else:
        print(f"{entry.id}  unregistered")


@app.command()
def verify(
    model_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...]", help="As list shows them.", autocompletion=model_ids),
    ] = None,
    everything: Annotated[bool, option("--all", help="All models on this machine.")] = False,
    json: Json = False,
) -> None:
    """Check model files against their SHA-256."""
    from llorch.cli.progress import shown_progress
    from llorch.store.models import installed, resolve
    from llorch.store.models import verify as verify_model

    if bool(model_ids) == everything:
        raise UsageError("name models, or all of them with --all", hint="llorch pool models list")
    entries = [resolve(i).entry for i in model_ids or []] or [m.entry for m in installed()]
    if not entries:
        say("no models yet")
    results = []
    for entry in entries:
        with shown_progress() as progress:
            results.append(verify_model(entry, progress))
        if not json:
            print(f"{entry.id}  {_verdict_words(results[-1])}")
    if json:
        print_json([_verdict_facts(result) for result in results])
    _raise_worst(results)


def _verdict_words(result: "VerifyResult") -> str:
    words = {
        "ok": "ok",
        "damaged": "DAMAGED: its SHA-256 is not the expected one",
        "missing": "not on this machine",
        "unknown": "nobody said what its SHA-256 should be",
    }
    return words[result.verdict.value]


def _verdict_facts(result: "VerifyResult") -> dict[str, Any]:
    return {
        "id": result.entry.id,
        "verdict": result.verdict.value,
        "path": None if result.path is None else str(result.path),
        "expected": result.expected,
        "actual": result.actual,
    }


def _raise_worst(results: "list[VerifyResult]") -> None:
    """An error for files that cannot be used, so that a script notices."""
    verdicts = {"damaged": ChecksumMismatch, "missing": ModelFileInvalid}
    for verdict, kind in verdicts.items():
        names = [r.entry.id for r in results if r.verdict.value == verdict]
        if names:
            ids = " ".join(names)
            remedy = f"llorch pool models download {ids}"
            if verdict == "damaged":
                remedy = f"llorch pool models remove {ids} --yes && {remedy}"
            raise kind(f"{verdict}: {ids}", hint=remedy)


@app.command()
def remove(
    model_id: ModelId,
    yes: Annotated[bool, option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete the downloaded files of a model.

    The model stays in the catalog. A file of your own is never deleted.
    """
    from llorch.store.models import remove as remove_model
    from llorch.store.models import resolve

    if not yes:
        resolve(model_id)  # nobody is asked about a model that does not exist
        _confirm(model_id)
    freed = remove_model(model_id)
    if json:
        print_json({"id": model_id, "freed_bytes": freed})
    else:
        print(f"{model_id}  removed, {size(freed)} freed")


def _confirm(model_id: str) -> None:
    """Ask on a terminal. Raises UsageError where nobody can answer, LlorchError for a no."""
    import sys

    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError("nobody is here to confirm", hint="add --yes")
    if not typer.confirm(f"Delete the files of {model_id}?", err=True):
        raise LlorchError("nothing was deleted")
