"""`llorch pool worker spawn`: start a background worker and wait until it is ready."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llorch.cli.child import config_arguments, flags
from llorch.cli.options import (
    MODEL_WORDS,
    Batch,
    Ctx,
    Device,
    Engine,
    Json,
    Slots,
    Threads,
    address_option,
    finite,
    model_option,
    option,
)
from llorch.cli.render import print_json, say
from llorch.cli.worker_facts import worker_facts
from llorch.errors import UsageError

if TYPE_CHECKING:
    from llorch.daemon.spawn import SpawnRequest

SpawnBackend = Annotated[
    Literal["auto", "cpu", "cuda", "metal"],
    typer.Argument(help="auto, cpu, cuda or metal.", metavar="BACKEND"),
]


EXAMPLES = """\b
Examples:
    llorch pool worker spawn cpu --model smollm2-135m
    llorch pool worker spawn auto -m ./my.gguf --orchestrator localhost:8080
"""


def spawn(
    ctx: typer.Context,
    backend: SpawnBackend,
    model: Annotated[
        str | None,
        model_option("POOL_WORKER_SPAWN", MODEL_WORDS),
    ] = None,
    device: Device = None,
    port: Annotated[
        int | None,
        option("--port", min=1, max=65535, metavar="P", help="Default: a free one from 8001 up."),
    ] = None,
    name: Annotated[
        str | None, option("--name", metavar="NAME", help="Serve the model as NAME.")
    ] = None,
    engine: Engine = "auto",
    slots: Slots = None,
    context: Ctx = None,
    threads: Threads = None,
    batch: Batch = None,
    orchestrator: Annotated[
        str | None,
        address_option(
            "orchestrator", "POOL_WORKER_SPAWN", "URL", "Register with this orchestrator."
        ),
    ] = None,
    timeout: Annotated[
        float,
        option(
            "--timeout",
            min=1,
            metavar="SECONDS",
            help="How long loading may take.",
            callback=finite,
        ),
    ] = 600,
    json: Json = False,
) -> None:
    """Start a background worker and wait until it is ready.

    It goes on when the terminal closes. The model is fetched first if it is not here. A worker
    that dies while it loads is an error, shown with the last lines of its log.
    """
    from llorch.cli.progress import spinner
    from llorch.daemon import spawn as spawning
    from llorch.net.address import netloc

    served, path = _fetched(model, engine)
    options = {
        "model": path,
        "name": name or served,
        "backend": backend,
        "engine": engine,
        "device": device,
        "slots": slots,
        "ctx": context,
        "threads": threads,
        "batch": batch,
        "orchestrator": orchestrator,
    }
    request = _request(ctx, options, port)
    with spinner(f"starting a worker for {request.model}"):
        record = spawning.start(request, timeout)
    if json:
        print_json(worker_facts(record, "ready"))
    else:
        print(f"{record.id}  {spawning.url_of(record)}  pid {record.pid}")
        say(f"log: {record.log_path}")
        say(f"try: llorch infer --worker {netloc(record.host, record.port)} --prompt Hello")


def _fetched(model: str | None, engine: str) -> tuple[str, Path | None]:
    """The name to serve and the file, downloaded if it is not here. Raises UsageError and more."""
    from llorch.cli.model_file import model_file

    if model is None and engine != "echo":
        raise UsageError(
            "no model is given", hint="--model smollm2-135m, or see llorch pool models catalog"
        )
    return model_file(model or "echo", engine)


def _request(ctx: typer.Context, options: dict[str, Any], port: int | None) -> "SpawnRequest":
    from llorch.daemon.spawn import SpawnRequest

    return SpawnRequest(
        model=options["name"],
        backend=options["backend"],
        arguments=tuple(flags(options)),
        global_arguments=tuple(config_arguments(ctx)),
        port=port,
        device=options["device"],
        orchestrator=options["orchestrator"],
    )
