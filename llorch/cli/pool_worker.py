"""`llorch pool worker`: background workers of this machine."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llorch.cli.lazy import new_app
from llorch.cli.options import (
    Batch,
    Ctx,
    Device,
    Engine,
    Json,
    Slots,
    Threads,
    finite,
    option,
)
from llorch.cli.render import age, print_json, print_table, say
from llorch.errors import LlorchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llorch.daemon.spawn import SpawnRequest
    from llorch.store.workers import WorkerRecord

app = new_app()

SpawnBackend = Annotated[
    Literal["auto", "cpu", "cuda", "metal"],
    typer.Argument(help="The kind of device to compute on.", metavar="BACKEND"),
]
StopGrace = Annotated[
    float,
    option("--grace", min=0, metavar="SECONDS", help="Then it is killed.", callback=finite),
]


@app.callback()
def worker() -> None:
    """Background workers of this machine."""


@app.command()
def spawn(
    ctx: typer.Context,
    backend: SpawnBackend,
    model: Annotated[
        str | None,
        option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A catalog id, a GGUF path or hf:org/repo[@rev][:file or quant].",
            envvar=["LLORCH_POOL_WORKER_SPAWN_MODEL", "LLORCH_MODEL"],
            show_envvar=False,
        ),
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
        option(
            "--orchestrator",
            metavar="URL",
            help="Register with this orchestrator.",
            envvar=["LLORCH_POOL_WORKER_SPAWN_ORCHESTRATOR", "LLORCH_ORCHESTRATOR"],
            show_envvar=False,
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
    """Start a worker that goes on when the terminal closes; return when it is ready.

    The model is fetched first if it is not here. A worker that dies while it loads is an error,
    shown with the last lines of its log.
    """
    from llorch.cli.progress import spinner
    from llorch.daemon import spawn as spawning

    served, path = _fetched(model, engine, json)
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
    with spinner(f"starting a worker for {request.model}", json):
        record = spawning.start(request, timeout)
    if json:
        print_json(_facts(record, "ready"))
    else:
        print(f"{record.id}  {spawning.url_of(record)}  pid {record.pid}")
        say(f"log: {record.log_path}")


def _fetched(model: str | None, engine: str, quiet: bool) -> tuple[str, Path | None]:
    """The name to serve and the file, downloaded if it is not here. Raises UsageError and more."""
    from llorch.cli.model_file import model_file

    if model is None and engine != "echo":
        raise UsageError(
            "no model is given", hint="--model smollm2-135m, or see llorch pool models catalog"
        )
    return model_file(model or "echo", engine, quiet)


def _request(ctx: typer.Context, options: dict[str, Any], port: int | None) -> "SpawnRequest":
    from llorch.daemon.spawn import SpawnRequest

    arguments: list[str] = []
    for key, value in options.items():
        arguments += [] if value is None else [f"--{key}", str(value)]
    settings = ctx.find_root().obj
    # The worker stands in `/`: it would not find ./llorch.toml by itself.
    config = [] if settings.path is None else ["--config", str(settings.path.absolute())]
    return SpawnRequest(
        model=options["name"],
        backend=options["backend"],
        arguments=tuple(arguments),
        global_arguments=tuple(config),
        port=port,
        device=options["device"],
        orchestrator=options["orchestrator"],
    )


@app.command("list")
def list_workers(json: Json = False) -> None:
    """List the background workers of this machine, dead ones too."""
    found = listed_workers()
    if json:
        print_json(found)
        return
    if not found:
        say("no workers; start one: llorch pool worker spawn cpu --model M")
        return
    headings = ("ID", "STATUS", "MODEL", "BACKEND", "PID", "AGE", "URL")
    print_table(headings, [_row(worker) for worker in found])


def listed_workers() -> list[dict[str, Any]]:
    """All workers of this machine, dead ones too, each with its status now."""
    from llorch.store import workers

    return [_facts(record, _status(record)) for record in workers.records()]


def _row(worker: dict[str, Any]) -> tuple[str, ...]:
    began = age(time.time() - worker["started_at"])
    facts = (worker["id"], worker["status"], worker["model"], worker["backend"])
    return (*facts, str(worker["pid"]), began, worker["url"])


def _status(record: "WorkerRecord") -> str:
    """What the worker says of itself, or `dead`, or `silent`: alive, but it does not answer."""
    from llorch.daemon.spawn import health
    from llorch.store import workers

    if not workers.is_alive(record):
        return "dead"
    return str(health(record).get("status", "silent"))


def _facts(record: "WorkerRecord", status: str) -> dict[str, Any]:
    """The JSON form of a worker."""
    from llorch.daemon.spawn import url_of

    return {
        "id": record.id,
        "status": status,
        "model": record.model,
        "backend": record.backend,
        "device": record.device,
        "pid": record.pid,
        "url": url_of(record),
        "orchestrator": record.orchestrator,
        "started_at": record.started_at,
        "log": record.log_path,
    }


@app.command()
def stop(
    worker_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As list shows them.")],
    grace: StopGrace = 30.0,
    json: Json = False,
) -> None:
    """Stop workers: they finish what runs; those that do not end in time are killed."""
    from llorch.daemon.spawn import find

    _stop_all(find(worker_ids), grace, json)


@app.command("stop-all")
def stop_all(grace: StopGrace = 30.0, json: Json = False) -> None:
    """Stop every background worker of this machine."""
    from llorch.store import workers

    _stop_all(workers.records(), grace, json)


def _stop_all(records: "Sequence[WorkerRecord]", grace: float, as_json: bool) -> None:
    """Stop workers, all at once; each failure is told, the first one is the command's."""
    from concurrent.futures import ThreadPoolExecutor

    from llorch.daemon.spawn import stop as stop_worker

    if not records and not as_json:
        say("no workers are running")
    failures: list[LlorchError] = []
    done: list[dict[str, str]] = []
    with ThreadPoolExecutor(max_workers=max(1, len(records))) as threads:
        answers = [(r, threads.submit(stop_worker, r, grace)) for r in records]
        for record, future in answers:
            try:
                outcome = future.result().value
            except LlorchError as error:
                failures.append(error)
                outcome = "failed"
            done.append({"id": record.id, "outcome": outcome})
            if not as_json:
                print(f"{record.id}  {outcome}")
    if as_json:
        print_json(done)
    if failures:
        raise failures[0]


@app.command()
def logs(
    worker_id: Annotated[str, typer.Argument(metavar="ID", help="As list shows it.")],
    follow: Annotated[
        bool, option("--follow", "-f", help="Go on until the worker ends or Ctrl-C.")
    ] = False,
) -> None:
    """Show the log of a worker."""
    from llorch.cli.follow import log_blocks
    from llorch.cli.output import stdout_output
    from llorch.store import workers

    record = workers.find(worker_id)
    output = stdout_output()
    alive = (lambda: workers.is_alive(record)) if follow else None
    for block in log_blocks(Path(record.log_path), alive):
        output.write_bytes(block)


@app.command()
def cleanup(json: Json = False) -> None:
    """Forget dead workers and delete their logs."""
    from llorch.store import workers

    forgotten = workers.clean_up()
    if json:
        print_json([_facts(record, "dead") for record in forgotten])
        return
    for record in forgotten:
        print(f"{record.id}  forgotten")
    if not forgotten:
        say("no dead workers")
